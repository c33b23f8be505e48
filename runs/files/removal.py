"""Removes a folder of a request that failed, and what was made around it."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path


def remove_with_parents(folder: Path, parents: int = 2) -> None:
    """Remove a folder with everything in it, and the folders above it that are empty then.

    Args:
        folder: The folder; what cannot be removed stays.
        parents: How many folders above it; of a run, a copy of code or an array the second is the folder of runs.
    """
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):  # something else is in there
        for parent in list(folder.parents)[:parents]:
            parent.rmdir()
