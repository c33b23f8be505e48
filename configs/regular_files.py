"""Reads files that another user may have planted: opening a FIFO would block, and reading a device would never end.

Standard library only: the set-up takes locks before anything is installed.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

DEEPEST = 100  # levels of YAML and JSON; deeper values exhaust the stack of whatever walks them


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading.

    Raises:
        OSError: The file cannot be opened, or is a FIFO, a socket, a device or a folder.
    """
    # O_NONBLOCK, because opening a FIFO would block before its type can be checked.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: Path) -> bytes:
    """Read a regular file whole; raises as ``open_regular``."""
    with open_regular(path) as file:
        return file.read()
