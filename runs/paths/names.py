"""Lists names in a folder, without reading the entries."""

from __future__ import annotations

import os
from pathlib import Path


def names_in(folder: Path) -> list[str]:
    """List the names of paths in ``folder``; empty if it cannot be read. Cheaper than ``Path.glob``."""
    try:
        return os.listdir(folder)  # noqa: PTH208  (names are all that is asked)
    except OSError:
        return []


def is_number(name: str) -> bool:
    """Whether a name is a number that saman writes; ``²`` is a digit too, and ``int`` refuses it."""
    return name.isascii() and name.isdigit() and len(name) < 10
