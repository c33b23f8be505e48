"""Ties the life of a process to that of its parent, through Linux's ``prctl``."""

from __future__ import annotations

import contextlib
import ctypes

_LIBC = ctypes.CDLL(None)  # loaded here, because nothing may be loaded between fork and exec
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def die_with_parent(number: int) -> None:
    """Have the kernel send signal ``number`` to this process when the thread that started it ends."""
    _prctl(_PR_SET_PDEATHSIG, number)


def adopt_orphans() -> None:
    """Become the new parent of descendants at their parent's death, so that none is lost."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    # Without prctl (not Linux) runs work, but leave more processes behind.
    with contextlib.suppress(AttributeError):
        _LIBC.prctl(option, ctypes.c_ulong(value), 0, 0, 0)
