"""``python -m saman.trainers.convert.tfjs SAVED_MODEL FOLDER``: TensorFlow.js' converter on a current TensorFlow.

The last release (4.22) imports, for inputs that are none of ours, decision forests, the hub, JAX and Keras 2, which
pin other TensorFlows. They get stand-ins here: what converts a SavedModel uses none of them.
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


class _Absent(types.ModuleType):
    """A module that has whatever is asked for, as long as nobody calls it."""

    __path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Absent(f"{self.__name__}.{name}")

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError(f"{self.__name__} is not there: only SavedModels are converted here")


def _stand_in(name: str) -> None:
    module = _Absent(name)
    module.__spec__ = ModuleSpec(name, None)
    sys.modules.setdefault(name, module)


def main(model: Path, output: Path) -> str:
    """Convert; returns what did it."""
    import numpy as np

    for name in _UNUSED:
        _stand_in(name)
    # Names that NumPy 2 removed and that the converter still reads.
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
