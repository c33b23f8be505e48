"""The signals that reach the supervisor: recorded instead of fatal."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

RECORDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


class RecordedSignals:
    """The signals that reach this process between ``start`` and ``close``, in the order of arrival.

    They are recorded without a gap from the start of the first attempt to the end of the last: a signal between two
    attempts would otherwise end the supervisor and leave the run ``running``.

    Attributes:
        numbers: The signals so far.
    """

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self._restore = contextlib.ExitStack()
        self._is_recording = False

    def start(self) -> None:
        """Record from now on; a second call does nothing. Outside the main thread, signals are left to others."""
        if self._is_recording or threading.current_thread() is not threading.main_thread():
            return
        self._is_recording = True
        for number in RECORDED:
            self._restore.callback(_set_handler, number, signal.signal(number, self._record))

    def close(self) -> None:
        """Give the signals back to the handlers from before ``start``."""
        self._restore.close()
        self._is_recording = False

    def _record(self, number: int, _: FrameType | None) -> None:
        self.numbers.append(number)


def _set_handler(number: int, handler: Callable[..., Any] | int | None) -> None:
    signal.signal(number, handler if handler is not None else signal.SIG_DFL)
