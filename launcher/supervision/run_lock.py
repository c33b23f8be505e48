"""The lock that makes one process the only supervisor of a run."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

from saman.configs.errors import UserError
from saman.launcher.supervision import processes
from saman.runs import locks
from saman.runs.events import find_last
from saman.runs.files.write_errors import explain_write_errors
from saman.runs.folder import RunFolder
from saman.runs.records.run_events import AttemptStart


class RunHeldError(UserError):
    """Another process supervises the run."""


@contextlib.contextmanager
def hold_run(run: RunFolder, wait_seconds: float = 0.0) -> Iterator[None]:
    """Hold the run as its only supervisor.

    Args:
        run: The run.
        wait_seconds: How long to wait for another supervisor's lock, as of a node that died.

    Raises:
        RunHeldError: Another process supervises the run.
    """
    with explain_write_errors(run.path, "the run folder"), contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locks.hold(_file(run), wait_seconds=wait_seconds, lost=_end_this_process))
        except locks.LockHeldError as held:
            problem, remedy = "this run is running", f"under {held.holder}"
            raise RunHeldError(problem, where=str(run.path), remedy=remedy) from None
        yield


def _end_this_process() -> None:
    """Another supervisor has the run, because this one did not answer for long: end like after SIGTERM."""
    os.kill(os.getpid(), signal.SIGTERM)


def supervisor_of(run: RunFolder) -> locks.Holder | None:
    """Name the supervisor that holds the run lock; ``None`` without a supervisor. The query takes no lock."""
    return locks.holder_of(_file(run))


def is_supervised(run: RunFolder) -> bool:
    """Whether the lock of a supervisor on this machine (or sharing its locks) holds the run."""
    return supervisor_of(run) is not None


def has_lost_supervisor(run: RunFolder) -> bool:
    """Whether the run lock's supervisor, of the newest attempt, ran on this machine and has ended, even by SIGKILL.

    A free lock alone proves nothing where the file system has no locks, nor does a process id that is not alive where
    machines share a name: both together do.
    """
    start = find_last(AttemptStart.from_event, run.events())
    if start is None or start.pid is None or start.host != socket.gethostname() or is_supervised(run):
        return False
    return processes.find_process(start.pid) is None


def _file(run: RunFolder) -> Path:
    return run.supervisor_lock
