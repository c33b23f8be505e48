"""``python -m saman.trainers.convert.tfjs SAVED_MODEL FOLDER``: TensorFlow.js' converter on a current TensorFlow.

The last release (4.22) imports decision forests, the hub, JAX and Keras 2, which pin other versions of TensorFlow. The
conversion of a SavedModel uses none of them, so stubs replace them.
"""

from __future__ import annotations

import sys
import types
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

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
    return f"tensorflowjs {version}"


if __name__ == "__main__":
    try:
        print(main(Path(sys.argv[1]), Path(sys.argv[2])))
    except ModuleNotFoundError as error:
        print(error.name, file=sys.stderr)
        sys.exit(3)
