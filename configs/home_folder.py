"""Paths as users write them, with ``~`` for a home folder."""

from __future__ import annotations

import os.path
from pathlib import Path


def in_home(path: str | Path) -> Path:
    """Expand a leading ``~`` or ``~user``; a user that does not exist leaves the path as it is, as in a shell.

    >>> in_home("~no-such-user/data").as_posix()
    '~no-such-user/data'
    """
    return Path(os.path.expanduser(path))  # noqa: PTH111  (Path.expanduser raises RuntimeError)
