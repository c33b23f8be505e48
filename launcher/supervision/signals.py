"""The signals that reach the supervisor: recorded instead of fatal."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

RECORDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


@contextlib.contextmanager
def record_signals(received: list[int]) -> Iterator[None]:
    """Append the number of each signal to ``received``; outside the main thread, signals are left to others."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def record(number: int, _: FrameType | None) -> None:
        received.append(number)

    before: dict[int, Callable[..., Any] | int | None] = {number: signal.signal(number, record) for number in RECORDED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
