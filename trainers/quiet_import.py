"""Imports TensorFlow at low priority in a process that becomes a warm spare: the ranks beside it need the cores."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Mapping
from importlib import import_module

from saman.runs import variables

PRIORITY = 10  # about a tenth of the share of a rank on a busy core, and all that is idle
_TRAINING = "saman.trainers.training"


def becomes_spare(environ: Mapping[str, str]) -> bool:
    """Whether this process joins an elastic run that has warm spares: then another process takes the free place."""
    largest = int(environ.get(variables.LARGEST_WORLD) or 0)
    process, processes = (int(environ.get(name) or 0) for name in (variables.PROCESS, variables.PROCESSES))
    is_later = environ.get(variables.REPLACES, "0") != "0" or process >= largest
    return 0 < largest < processes and is_later


def import_quietly(module: str = _TRAINING) -> None:
    """Import a module in a thread of low priority.

    Linux keeps a priority per thread (setpriority(2)), and only root may raise one again: the threads that train later
    are not started by this one.
    """
    errors: list[BaseException] = []

    def work() -> None:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), PRIORITY)
        try:
            import_module(module)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, name="import")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
