"""Refuses a Horovod whose optimizer exchanges nothing in Keras' ``fit``, before any rank starts."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from saman.configs.errors import EnvironmentLack
from saman.configs.schemas.script import Script
from saman.launcher.node.horovod_build import module_origin

_WRAPS = re.compile(rb"\bDistributedOptimizer\b")
_LEGACY = ("1", "true", "yes")  # as TensorFlow reads TF_USE_LEGACY_KERAS


def refuse_silent_horovod(spec: Script, directory: Path, python: str | None) -> None:
    """Refuse a script with ``hvd.DistributedOptimizer`` where it would do nothing.

    On Keras 3, the released Horovod overrides methods of the optimizer that Keras does not call: each rank would train
    a model of its own, without a message.

    Args:
        spec: the program.
        directory: its working directory.
        python: the interpreter that runs it; ``None`` if it is no Python program.

    Raises:
        EnvironmentLack: the script names the wrapper, and this interpreter's Horovod is the released one on Keras 3.
    """
    legacy = spec.legacy_keras or os.environ.get("TF_USE_LEGACY_KERAS", "").lower() in _LEGACY
    if legacy or python is None or not names_wrapper(spec.command, directory):
        return
    horovod, keras = module_origin("horovod", python), module_origin("keras", python)
    if horovod and keras and is_keras_3(Path(keras)) and not exchanges_on_keras_3(Path(horovod)):
        raise EnvironmentLack(
            "hvd.DistributedOptimizer of this Horovod exchanges no gradients on Keras 3: each rank would train alone",
            where=str(Path(horovod).parent),
            remedy="use the Horovod that saman setup builds, or run the script with --legacy-keras",
        )


def names_wrapper(command: Sequence[str], directory: Path) -> bool:
    """Whether a Python file of the command names ``DistributedOptimizer``."""
    files = (directory / word for word in command if word.endswith(".py"))
    return any(_WRAPS.search(file.read_bytes()) for file in files if file.is_file())


def is_keras_3(origin: Path) -> bool:
    """Whether the package with this ``__init__.py`` is Keras 3 or later, by its version."""
    version = origin.parent / "src" / "version.py"
    if not version.is_file():
        return False
    found = re.search(r'^__version__ = "(\d+)', version.read_text("utf-8"), re.MULTILINE)
    return found is not None and int(found[1]) >= 3


def exchanges_on_keras_3(origin: Path) -> bool:
    """Whether Horovod's Keras interface knows Keras 3: by the function that the set-up's patch 0005 adds."""
    wrappers = origin.parent / "_keras" / "__init__.py"
    return wrappers.is_file() and "def _create_keras_3_optimizer" in wrappers.read_text("utf-8")
