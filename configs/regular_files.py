"""Reads files that another user may have planted: opening a FIFO would block, and reading a device would never end.

Standard library only: the set-up takes locks before anything is installed.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

_PART = 1 << 20  # bytes of a read beyond the size that the file had when it was opened
DEEPEST = 100  # levels of YAML and JSON; deeper values exhaust the stack of whatever walks them


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading.

    Raises:
        OSError: The file cannot be opened, or is a FIFO, a socket, a device or a folder.
    """
    return os.fdopen(_regular_descriptor(path)[0], "rb")


def read_regular(path: Path) -> bytes:
    """Read a regular file whole; raises as ``open_regular``. Without a file object, for thousands of small files."""
    descriptor, size = _regular_descriptor(path)
    try:
        parts = [os.read(descriptor, size + 1)]
        while part := os.read(descriptor, _PART):
            parts.append(part)
    finally:
        os.close(descriptor)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _regular_descriptor(path: Path) -> tuple[int, int]:
    """A descriptor of a regular file, and its size in bytes."""
    # O_NONBLOCK, because opening a FIFO would block before its type can be checked.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, found.st_size
