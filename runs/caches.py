"""The user's cache folder, and locks in it between all processes of the user."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from saman.runs import variables
from saman.runs.locks import hold


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return ``SAMAN_CACHE_DIR``, or ``saman`` in the user's cache folder."""
    if environment.get(variables.CACHE_DIR):
        return Path(environment[variables.CACHE_DIR]).expanduser().absolute()
    base = environment.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "saman"


def only_one(name: str, cache: Path, waiting: Callable[[], None]) -> AbstractContextManager[None]:
    """Hold the lock ``name`` among all processes of this user; ``waiting`` is called once if another holds it."""
    return hold(cache / "locks" / f"{name}.lock", wait_seconds=None, waiting=lambda holder: waiting())
