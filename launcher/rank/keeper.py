"""The parent process of the wrapper: it ends the wrapper's descendants when the wrapper is killed without warning.

The kernel hands the orphans of a killed wrapper to the nearest living ancestor that adopts them, so a daemon is found
by descent even if it cleared its environment and left its session. If the keeper is killed instead, the wrapper ends
everything itself. Only if both are killed in the same instant does a daemon without marks escape; a scheduler's control
group then ends it with the job.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable

from saman.launcher.supervision import processes
from saman.runs.ranks import parent_death

_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
_WATCHED = (signal.SIGCHLD, *_FORWARDED)
GONE_SECONDS = 5.0  # for descendants to disappear after SIGKILL


def run_kept(work: Callable[[], int]) -> int:
    """Run ``work`` in a child process, forward signals to it, and end what it leaves.

    Args:
        work: What the child does; its result is the child's exit status.

    Returns:
        The exit status of the child. Ends this process by the signal that ended the child, if a signal did.
    """
    keeper, starter = os.getpid(), os.getppid()
    parent_death.die_with_parent(signal.SIGTERM)
    parent_death.adopt_orphans()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        _work_and_exit(work, keeper)
    status = _wait(child, starter)
    processes.kill_until_gone(_reaped_descendants, GONE_SECONDS)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        with contextlib.suppress(OSError):  # SIGKILL has no handler
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(keeper, number)
    return os.waitstatus_to_exitcode(status)


def _work_and_exit(work: Callable[[], int], keeper: int) -> None:
    code = 1
    try:
        parent_death.die_with_parent(signal.SIGTERM)
        if os.getppid() == keeper:
            code = work()
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _wait(child: int, starter: int) -> int:
    """Wait for the end of ``child``, and forward signals meanwhile; returns its wait status."""
    ended: int | None = None
    while ended is None:
        caught = processes.await_signal(_WATCHED, 1.0)
        if caught in _FORWARDED:
            if os.getppid() != starter:
                os._exit(1)  # the start method is dead: the wrapper sees its own orphanhood and kills at once
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, caught)
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                if found[0] == child:
                    ended = found[1]
    return ended


def _reaped_descendants() -> dict[int, processes.ProcessInfo]:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return {}  # without children there are no descendants: no need to read /proc
    return processes.list_descendants([os.getpid()])
