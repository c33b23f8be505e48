"""The lock that makes one process the only supervisor of a run."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator

from saman.configs.errors import UserError
from saman.configs.files import explained
from saman.runs.folder import RunFolder


@contextlib.contextmanager
def alone(run: RunFolder) -> Iterator[None]:
    """Hold the run as its only supervisor; raises ``UserError`` if another process supervises it."""
    path = run.path / "control" / "supervisor"
    with explained(run.path, "the run folder"), path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UserError("this run is running", where=str(run.path), remedy=f"under {file.read().strip()}") from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield


def running(run: RunFolder) -> bool:
    """Whether a supervisor on this machine (or sharing its locks) holds the run."""
    path = run.path / "control" / "supervisor"
    try:
        with path.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
