"""Imports TensorFlow at low priority in a process that becomes a warm spare: the ranks beside it need the cores."""

from __future__ import annotations

import contextlib
import os
import threading
from importlib import import_module

from saman.runs.elastic.spare_priority import PRIORITY

_TRAINING = "saman.trainers.training"


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
