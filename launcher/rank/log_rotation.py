"""Keeps the log of a process below a limit, while the process goes on writing to it.

The program holds the file open, so it is copied and truncated in place: the copy is the older part. The program
appends (O_APPEND), so its next line begins the truncated file. Lines that it prints between the end of the copy and
the truncation are lost; the first line of the file says so.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from pathlib import Path

CLOSE_SECONDS = 5.0


class LogRotation:
    """Rotates a log whenever it grows too long; copies in a thread, so calls return at once.

    Args:
        log: The file that a process appends to.
        older: Where its content goes.
        limit_bytes: Largest size of both together; ``None`` never rotates.
    """

    def __init__(self, log: Path, older: Path, limit_bytes: int | None) -> None:
        self._log, self._older, self._limit = log, older, limit_bytes
        self._thread: threading.Thread | None = None

    def look(self) -> None:
        """Begin to rotate if it is time; call it about once a second."""
        if self._limit is None or (self._thread is not None and self._thread.is_alive()):
            return
        with contextlib.suppress(OSError):
            if self._log.stat().st_size > self._limit // 2:
                self._thread = threading.Thread(target=rotate, args=(self._log, self._older, self._limit), daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Wait for a rotation that has begun, at most ``CLOSE_SECONDS``."""
        if self._thread is not None:
            self._thread.join(CLOSE_SECONDS)


def rotate(log: Path, older: Path, limit_bytes: int) -> bool:
    """Move the content of ``log`` to ``older`` if it is longer than half the limit; returns whether it was.

    Both together then stay below the limit, apart from what is printed between two calls.

    Args:
        log: The file that a process appends to.
        older: Where its content goes; earlier content there is dropped.
        limit_bytes: Largest size of both together.
    """
    try:
        if log.stat().st_size <= limit_bytes // 2:
            return False
        temporary = older.with_name(f".{older.name}.tmp")
        with log.open("rb") as source, temporary.open("wb") as copy:
            source.seek(max(0, log.stat().st_size - limit_bytes // 2))
            shutil.copyfileobj(source, copy, 1 << 20)
    except OSError:
        return _emptied(log, limit_bytes, "the older part could not be kept")
    dropped = older.exists()
    temporary.replace(older)
    note = "and those before them were dropped" if dropped else "and nothing was dropped"
    return _emptied(log, limit_bytes, f"the lines before are in {older.name}, {note}")


def _emptied(log: Path, limit_bytes: int, note: str) -> bool:
    """Truncate the log, with a first line that says why."""
    with contextlib.suppress(OSError):
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
        try:
            os.ftruncate(descriptor, 0)
            from saman.configs.units import format_bytes  # with pydantic, which no wrapper needs before

            reached = f"this log reached launch.log_limit ({format_bytes(limit_bytes)})"
            os.write(descriptor, f"[saman: {reached}; {note}]\n".encode())
        finally:
            os.close(descriptor)
        return True
    return False
