"""Gives the space of a file's begin back while other processes append to it: their offsets stay as they are."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_KEEP_SIZE, _PUNCH_HOLE = 0x01, 0x02  # fallocate(2)
_LIBC = ctypes.CDLL(None, use_errno=True)


def free_begin(path: Path, length: int) -> bool:
    """Free the space of the first ``length`` bytes of a file, which then read as zeros.

    Returns:
        Whether the file system could do so.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        mode, size = ctypes.c_int(_KEEP_SIZE | _PUNCH_HOLE), ctypes.c_long(length)
        return int(_LIBC.fallocate(ctypes.c_int(descriptor), mode, ctypes.c_long(0), size)) == 0
    except AttributeError:  # a C library without fallocate
        return False
    finally:
        os.close(descriptor)
