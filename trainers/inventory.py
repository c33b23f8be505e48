"""``python -m saman.trainers.inventory`` prints as JSON what ranks would find here: TensorFlow, Keras, Horovod, mpi4py.

A process of its own, because other rooms must not import these. Each part is tried alone: one that is broken hides no
other.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

Facts = dict[str, Any]


def tensorflow_facts() -> Facts:
    """Version, and the GPUs that TensorFlow can use."""
    tf = import_module("tensorflow")
    gpus = [device.name for device in tf.config.list_physical_devices("GPU")]
    return {"version": tf.__version__, "gpus": gpus, "cuda": bool(tf.test.is_built_with_cuda())}


def keras_facts() -> Facts:
    """The version behind ``tf.keras``, and whether Keras 2 is there beside Keras 3."""
    keras = import_module("tensorflow").keras
    found = getattr(keras, "__version__", None) or version("keras")  # Keras 2's lazy module has no version in 2.15
    return {"version": found, "legacy": None if found.startswith("2.") else _installed("tf_keras")}


def horovod_facts() -> Facts:
    """Version, and what its TensorFlow library was built with; the library itself is asked, not the file names."""
    hvd = import_module("horovod.tensorflow")
    horovod: Any = import_module("horovod")
    folders = sorted(library.parent.name for library in Path(horovod.__file__).parent.glob("*/mpi_lib*.so"))
    operations = {"NCCL": hvd.nccl_built(), "CCL": hvd.ccl_built(), "MPI": hvd.mpi_built(), "Gloo": hvd.gloo_built()}
    return {
        "version": horovod.__version__,
        "frameworks": folders,
        "controllers": [name for name in ("MPI", "Gloo") if operations[name]],
        "operations": [name for name, built in operations.items() if built],
    }


def mpi4py_facts() -> Facts:
    """Version, and the MPI library that it finds; MPI is not started."""
    mpi4py = import_module("mpi4py")
    mpi4py.rc.initialize = False
    library = import_module("mpi4py.MPI").Get_library_version()
    return {"version": mpi4py.__version__, "library": library.rstrip("\0").splitlines()[0].split(", package")[0]}


def scikit_learn_facts() -> Facts:
    """Version; the digits come with it."""
    return {"version": version("scikit-learn")}


PARTS: dict[str, tuple[str, Callable[[], Facts]]] = {
    "tensorflow": ("tensorflow", tensorflow_facts),
    "keras": ("keras", keras_facts),
    "horovod": ("horovod", horovod_facts),
    "mpi4py": ("mpi4py", mpi4py_facts),
    "scikit-learn": ("sklearn", scikit_learn_facts),
}


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def take(module: str, ask: Callable[[], Facts]) -> Facts:
    """What ``ask`` answers; ``missing`` where ``module`` is not installed, ``error`` where it does not work."""
    try:
        return ask()
    except PackageNotFoundError:  # a ModuleNotFoundError too, so it comes first
        return {"missing": True}
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0] in (module, "tensorflow")
        return {"missing": True} if missing else {"error": str(error)}
    except Exception as error:  # a library that is not found or has another ABI comes in many kinds
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return {"error": lines[0]}


def main() -> None:
    """Print one JSON object; libraries may print whatever they like before it."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["KERAS_BACKEND"] = "tensorflow"
    found = {name: take(module, ask) for name, (module, ask) in PARTS.items()}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
