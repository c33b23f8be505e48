"""The program of a rank as a child process: starts it, signals its process group, reaps it and its orphans."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

from saman.launcher.supervision import processes
from saman.runs import variables
from saman.runs.ranks import parent_death


@dataclass
class Child:
    """The running program. ``kill_at`` is when it gets SIGKILL (monotonic seconds), after a request to stop."""

    pid: int
    parent: int  # of the wrapper, when it began
    status: int | None = None
    stopped: bool = False
    kill_at: float | None = None

    def reap(self) -> bool:
        """Collect every ended child and adopted orphan; returns whether the program itself has ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return self.status is not None
            if pid == 0:
                return self.status is not None
            if pid == self.pid:
                self.status = status

    def signal_group(self, number: int) -> None:
        """Send a signal to the program and what it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def kill_descendants(self) -> None:
        """Kill every live descendant of the program."""
        self.signal_group(signal.SIGKILL)
        processes.kill_until_gone(_reaped_descendants, seconds=2.0)


def start_child(
    command: Sequence[str], environment: Mapping[str, str], output: IO[bytes], mask: Any, parent: int,
    ignore_sigterm: bool,
) -> Child:  # fmt: skip
    """Start the program in a process group of its own; raises ``OSError`` if it cannot be started.

    Args:
        command: the program and its arguments.
        environment: its variables; ``SAMAN_DIRECTORY`` is the folder it starts in.
        output: where its output goes.
        mask: the signals to block in it.
        parent: the parent process of this wrapper.
        ignore_sigterm: whether SIGTERM is left to the wrapper.
    """
    me = os.getpid()

    def prepare() -> None:
        os.setpgid(0, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if ignore_sigterm:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        parent_death.die_with_parent(signal.SIGKILL)
        if os.getppid() != me:
            os._exit(1)

    child = subprocess.Popen(
        command,
        cwd=environment.get(variables.DIRECTORY),
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        close_fds=False,  # MPICH and Intel MPI reach their process manager by an inherited descriptor (PMI_FD)
        preexec_fn=prepare,
    )
    child.returncode = 0  # Child.reap collects it, with every adopted orphan
    return Child(child.pid, parent)


def _reaped_descendants() -> dict[int, processes.ProcessInfo]:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    return processes.list_descendants([os.getpid()])
