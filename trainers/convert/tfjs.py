"""``python -m saman.trainers.convert.tfjs SAVED_MODEL FOLDER``: TensorFlow.js' converter on a current TensorFlow.

The last release (4.22) imports decision forests, the hub, JAX and Keras 2, which pin other versions of TensorFlow. The
conversion of a SavedModel uses none of them, so stubs replace them.
"""

from __future__ import annotations

import json
import re
import sys
import types
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

_IDENTITY = re.compile(r"Identity(?:_(\d+))?:0")
_UNUSED = (
    "tensorflow_decision_forests",
    "tensorflow_hub",
    "jax",
    "jax.experimental",
    "jax.experimental.jax2tf",
    "tf_keras",
)


class _StubModule(types.ModuleType):
    """A module with every attribute; a call of any attribute raises."""

    __path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _StubModule(f"{self.__name__}.{name}")

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError(f"{self.__name__} is not there: only SavedModels can be converted")


def _install_stub(name: str) -> None:
    module = _StubModule(name)
    module.__spec__ = ModuleSpec(name, None)
    sys.modules.setdefault(name, module)


def main(model: Path, output: Path) -> str:
    """Convert the model; returns name and version of the converter."""
    import numpy as np

    for name in _UNUSED:
        _install_stub(name)
    # The converter reads names that NumPy 2 removed.
    for old, new in (("object", object), ("bool", bool), ("str", str)):
        if old not in np.__dict__:
            setattr(np, old, new)
    from tensorflowjs.converters import tf_saved_model_conversion_v2 as conversion
    from tensorflowjs.version import version

    conversion.convert_tf_saved_model(
        str(model), str(output), signature_def="serving_default", saved_model_tags="serve"
    )
    name_outputs(output / "model.json", _output_names(model))
    return f"tensorflowjs {version}"


def _output_names(model: Path) -> list[str]:
    import tensorflow as tf

    return sorted(tf.saved_model.load(str(model)).signatures["serving_default"].structured_outputs)


def name_outputs(file: Path, names: list[str]) -> None:
    """Give several outputs their names: the converter matches names by shape, and drops them where shapes are equal.

    The frozen graph holds them as Identity, Identity_1, …, in the order of the sorted names.
    """
    about = json.loads(file.read_text(encoding="utf-8"))
    found = list(about.get("signature", {}).get("outputs", {}).values())
    numbers = [_IDENTITY.fullmatch(output["name"]) for output in found]
    if len(names) < 2 or len(found) != len(names) or not all(numbers):
        return
    order = sorted(zip((int(number[1] or 0) for number in numbers if number), found, strict=True), key=lambda at: at[0])
    about["signature"]["outputs"] = {name: output for name, (_, output) in zip(names, order, strict=True)}
    file.write_text(json.dumps(about), encoding="utf-8")


if __name__ == "__main__":
    try:
        print(main(Path(sys.argv[1]), Path(sys.argv[2])))
    except ModuleNotFoundError as error:
        print(error.name, file=sys.stderr)
        sys.exit(3)
