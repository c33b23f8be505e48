"""Space kept for the last record of a run: on a full disk it is given up, so that the end of the run can be written."""

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
    """Give the space up; returns whether there was any."""
    try:
        path.unlink()
    except OSError:
        return False
    return True


def write_with_reserve(path: Path, write: Callable[[], T]) -> T:
    """Write, and write again after giving up the reserve at ``path`` if the disk is full; raises as ``write``."""
    try:
        return write()
    except OSError as error:
        if error.errno not in _FULL or not release(path):
            raise
        return write()
