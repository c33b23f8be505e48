"""Disk space reserved for the last record of a run: released when the disk is full, so that the end is recorded."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

RESERVED_BYTES = 32768
_FULL = (errno.ENOSPC, errno.EDQUOT)
T = TypeVar("T")


def reserve(path: Path) -> None:
    """Fill ``path`` with bytes that no file system can compress away; does nothing where the disk is already full."""
    with contextlib.suppress(OSError):
        path.write_bytes(os.urandom(RESERVED_BYTES))


def release(path: Path) -> bool:
    """Release the space; returns whether any was reserved."""
    try:
        path.unlink()
    except OSError:
        return False
    return True


def write_with_reserve(path: Path, write: Callable[[], T]) -> T:
    """Write; if the disk is full, release the reserve at ``path`` and write again. Raises as ``write``."""
    try:
        return write()
    except OSError as error:
        if error.errno not in _FULL or not release(path):
            raise
        return write()
