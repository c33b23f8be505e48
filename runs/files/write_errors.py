"""Turns failed writes into errors with a remedy."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from saman.configs.errors import EnvironmentLack

RUNS_OPTION = "--runs-dir"
MODELS_OPTION = "--models-dir"


@contextlib.contextmanager
def explain_write_errors(path: Path, what: str, option: str = RUNS_OPTION) -> Iterator[None]:
    """Turn an ``OSError`` while writing files into an ``EnvironmentLack`` with a remedy.

    Args:
        path: The place that is written; the error names its own file if it knows it.
        what: The thing that is written, for the message.
        option: The option that chooses another place.
    """
    try:
        yield
    except OSError as error:
        place = error.filename if isinstance(error.filename, str) else str(path)
        owner = _owner(Path(place)) if error.errno in (errno.EACCES, errno.EPERM) else ""
        problem = f"{what} cannot be written: {os.strerror(error.errno) if error.errno else error}{owner}"
        raise EnvironmentLack(problem, where=place, remedy=_remedy(error.errno, option)) from error


def _remedy(code: int | None, option: str) -> str | None:
    space = "free some space" + (" (saman models prune removes old versions)" if option == MODELS_OPTION else "")
    return {
        errno.ENOENT: "a folder on its path was moved or removed",
        errno.EROFS: f"the file system is read-only; choose another place with {option}",
        errno.EACCES: f"ask its owner, or choose a writable place with {option}",
        errno.EPERM: f"ask its owner, or choose a writable place with {option}",
        errno.ENOSPC: f"the disk is full; {space}, or choose another place with {option}",
        errno.EDQUOT: f"the quota is exceeded; {space}, or choose another place with {option}",
    }.get(code or 0)


def _owner(path: Path) -> str:
    """``; FOLDER belongs to NAME`` for the nearest existing folder."""
    for folder in (path, *path.parents):
        with contextlib.suppress(OSError, KeyError):
            return f"; {folder} belongs to {folder.owner()}"
    return ""
