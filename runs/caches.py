"""The user's cache folder, and locks in it that all processes of the user share."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """``SAMAN_CACHE_DIR``, else ``saman`` in the user's cache folder."""
    if environment.get("SAMAN_CACHE_DIR"):
        return Path(environment["SAMAN_CACHE_DIR"]).expanduser().absolute()
    base = environment.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "saman"


@contextmanager
def only_one(name: str, cache: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the lock ``name`` among all processes of this user; ``waiting`` is called once if another holds it."""
    folder = cache / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield
