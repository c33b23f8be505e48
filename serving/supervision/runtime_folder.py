"""The private folder of a running server, for sockets and copies of versions."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from pathlib import Path

from saman.runs import locks

_PREFIX = "saman-serve-"
_LOCK = "lock"  # its server holds it as long as it lives


class RuntimeFolder:
    """A new folder that only this user may enter; those that killed servers left on this machine are removed.

    Attributes:
        path: The folder; short, because the path of a socket is.
    """

    def __init__(self) -> None:
        place = _place()
        _remove_left(place)
        new = Path(tempfile.mkdtemp(prefix="saman-new-", dir=place))
        self._lock = locks.acquire(new / _LOCK, mode=0o600, this_machine=True)
        self.path = new.rename(place / new.name.replace("saman-new-", _PREFIX))  # no other sees it without its lock

    def remove(self) -> None:
        """Remove the folder with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.release()


def _place() -> Path:
    own = os.environ.get("XDG_RUNTIME_DIR")
    return Path(own if own and Path(own).is_dir() and os.access(own, os.W_OK) else tempfile.gettempdir())


def _remove_left(place: Path) -> None:
    for folder in place.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError, locks.LockHeldError):
            about = folder.lstat()
            if stat.S_ISDIR(about.st_mode) and about.st_uid == os.geteuid() and (folder / _LOCK).is_file():
                lock = locks.acquire(folder / _LOCK, this_machine=True)
                shutil.rmtree(folder)
                lock.release()
