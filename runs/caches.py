"""The user's cache folder, and locks in it between all processes of the user."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from saman.configs.errors import EnvironmentLack
from saman.configs.home_folder import in_home
from saman.runs import variables
from saman.runs.locks import LockHeldError, hold
from saman.runs.trust.ownership import find_doubt

# Folders of the cache. The cache folder may hold other things: users point SAMAN_CACHE_DIR at any folder.
PARTS = ("converters", "data", "profiles", "sources", "staged", "vega", "wheels")
LOCK_SECONDS = 3600.0  # the longest build of Horovod takes minutes; a stopped process holds a lock for ever


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return ``SAMAN_CACHE_DIR``, or ``saman`` in the user's cache folder."""
    if environment.get(variables.CACHE_DIR):
        return in_home(environment[variables.CACHE_DIR]).absolute()
    base = environment.get("XDG_CACHE_HOME") or "~/.cache"
    return in_home(base).absolute() / "saman"


def require_trusted(*paths: Path) -> None:
    """Refuse a cache whose code others control.

    Raises:
        EnvironmentLack: Another user owns a path or may write to it. A path that is missing is not refused.
    """
    for path in paths:
        doubt = find_doubt(path)
        if doubt is not None:
            problem = f"{doubt}; what it holds would be trusted as yours"
            remedy = f"{doubt.remedy}, or choose a cache of your own with {variables.CACHE_DIR}"
            raise EnvironmentLack(problem, where=str(path), remedy=remedy)


@contextlib.contextmanager
def hold_user_lock(name: str, cache: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold a lock among all processes of this user.

    Args:
        name: Name of the lock.
        cache: The cache folder, which holds the lock's file.
        waiting: Called once if another process holds the lock.

    Raises:
        EnvironmentLack: Another process still holds the lock after ``LOCK_SECONDS``.
    """
    file = cache / "locks" / f"{name}.lock"
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(hold(file, wait_seconds=LOCK_SECONDS, waiting=lambda holder: waiting()))
        except LockHeldError as held:
            problem = f"{held.holder} has held this lock for {LOCK_SECONDS / 60:.0f} minutes"
            remedy = f"end that process, or choose another cache with {variables.CACHE_DIR}"
            raise EnvironmentLack(problem, where=str(file), remedy=remedy) from None
        yield
