"""``python -m saman.trainers.inventory``: prints as JSON which TensorFlow, Keras, Horovod and mpi4py ranks find here.

It is a process of its own, because other rooms must not import these libraries. Each library is imported separately:
a broken library does not hide another.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from saman.runs.records.inventory import Inventory, LibraryFacts


def tensorflow_facts() -> LibraryFacts:
    """Inventory of this Python's TensorFlow, and the GPUs that it can use."""
    tf = import_module("tensorflow")
    gpus = tuple(device.name for device in tf.config.list_physical_devices("GPU"))
    return LibraryFacts(tf.__version__, gpus=gpus, cuda=bool(tf.test.is_built_with_cuda()))


def keras_facts() -> LibraryFacts:
    """Inventory of this Python's Keras: the version behind ``tf.keras``, and Keras 2 if it stands beside."""
    keras = import_module("tensorflow").keras
    found = getattr(keras, "__version__", None) or version("keras")  # Keras 2's lazy module has no version in 2.15
    return LibraryFacts(found, legacy=None if found.startswith("2.") else _installed("tf_keras"))


def horovod_facts() -> LibraryFacts:
    """Inventory of this Python's Horovod: its version, and what its TensorFlow library was built with."""
    hvd = import_module("horovod.tensorflow")
    horovod: Any = import_module("horovod")
    folders = sorted(library.parent.name for library in Path(horovod.__file__).parent.glob("*/mpi_lib*.so"))
    built = {"NCCL": hvd.nccl_built(), "CCL": hvd.ccl_built(), "MPI": hvd.mpi_built(), "Gloo": hvd.gloo_built()}
    return LibraryFacts(
        horovod.__version__,
        frameworks=tuple(folders),
        controllers=tuple(name for name in ("MPI", "Gloo") if built[name]),
        operations=tuple(name for name, has in built.items() if has),
    )


def mpi4py_facts() -> LibraryFacts:
    """Inventory of this Python's mpi4py, and the MPI library that it finds, without starting MPI."""
    mpi4py = import_module("mpi4py")
    mpi4py.rc.initialize = False
    library = import_module("mpi4py.MPI").Get_library_version()
    return LibraryFacts(mpi4py.__version__, library=library.rstrip("\0").splitlines()[0].split(", package")[0])


def scikit_learn_facts() -> LibraryFacts:
    """Inventory of this Python's scikit-learn; the digits come with it."""
    return LibraryFacts(version("scikit-learn"))


# name -> (top-level module, how its facts are found)
LIBRARIES: dict[str, tuple[str, Callable[[], LibraryFacts]]] = {
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


def find_facts(module: str, find: Callable[[], LibraryFacts]) -> LibraryFacts:
    """Return what ``find`` returns for the inventory of this Python; ``missing`` or ``error`` if it does not load."""
    try:
        return find()
    except PackageNotFoundError:  # a subclass of ModuleNotFoundError, so it comes first
        return LibraryFacts(missing=True)
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0] in (module, "tensorflow")
        return LibraryFacts(missing=True) if missing else LibraryFacts(error=str(error))
    except Exception as error:  # a shared library that is missing or has another ABI raises many types
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return LibraryFacts(error=lines[0])


def main() -> None:
    """Print a JSON object as the last line; libraries may print other lines before it."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["KERAS_BACKEND"] = "tensorflow"
    libraries = {name: find_facts(module, find) for name, (module, find) in LIBRARIES.items()}
    print(json.dumps(Inventory(libraries).to_json()))


if __name__ == "__main__":
    main()
