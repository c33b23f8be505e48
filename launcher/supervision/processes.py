"""The processes of an attempt, found in /proc: listed, signalled, killed."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from saman.runs import variables


@dataclass(frozen=True)
class ProcessInfo:
    """A process in /proc. ``started`` (clock ticks since boot) distinguishes it from a later process with its pid."""

    pid: int
    parent: int
    state: str
    started: int
    cpu_ticks: int = 0


def find_process(pid: int) -> ProcessInfo | None:
    """Look up the process ``pid``; ``None`` if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()  # the name may hold any character, also a parenthesis
    return ProcessInfo(pid, int(fields[1]), fields[0], int(fields[19]), int(fields[11]) + int(fields[12]))


def list_processes() -> dict[int, ProcessInfo]:
    """List every process by pid, without zombies."""
    pids = (int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit())
    seen = (find_process(pid) for pid in pids)
    return {process.pid: process for process in seen if process is not None and process.state not in ("Z", "X")}


def list_descendants(of: Iterable[int], among: dict[int, ProcessInfo] | None = None) -> dict[int, ProcessInfo]:
    """List every live descendant of the processes ``of``."""
    among = list_processes() if among is None else among
    above = set(of)
    found: dict[int, ProcessInfo] = {}
    while True:
        more = {pid: process for pid, process in among.items() if process.parent in above and pid not in found}
        if not more:
            return {pid: process for pid, process in found.items() if pid not in set(of)}
        found |= more
        above |= set(more)


def list_attempt_processes(run: Path, attempt: int, **more: str) -> dict[int, ProcessInfo]:
    """List every live process of an attempt, except this process: by environment variables, and by descent.

    More variables narrow the list down, such as ``variables.PROCESS`` to a process of the attempt and its descendants.
    """
    wanted = {variables.RUN: str(run), variables.ATTEMPT: str(attempt), **more}
    marks = {f"{name}={value}".encode(errors="surrogateescape") for name, value in wanted.items()}
    among = list_processes()
    marked = {pid: process for pid, process in among.items() if marks <= _environment(pid)}
    found = marked | list_descendants(marked, among)
    found.pop(os.getpid(), None)
    return found


def kill_after_own_death(find: Callable[[], dict[int, ProcessInfo]]) -> None:
    """Fork a process that kills processes of the attempt once the supervising process has ended, even by SIGKILL."""
    watched, held = os.pipe()
    if os.fork():
        os.close(watched)  # the other end stays open until the kernel closes it
        return
    try:
        os.setsid()
        os.dup2(watched, 0)
        os.closerange(1, 4096)  # the guard must hold no pipe open that another process reads
        os.read(0, 1)
        kill_until_gone(find, seconds=5.0)
    finally:
        os._exit(0)


def _environment(pid: int) -> set[bytes]:
    try:
        return set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
    except OSError:
        return set()


def signal_processes(processes: Iterable[ProcessInfo], number: int) -> None:
    """Signal ``processes``, except where the pid belongs to a later process."""
    for process in processes:
        now = find_process(process.pid)
        if now is not None and now.started == process.started:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process.pid, number)


def kill_until_gone(find: Callable[[], dict[int, ProcessInfo]], seconds: float) -> dict[int, ProcessInfo]:
    """Send SIGKILL until ``find`` returns no process or the time is over. Returns the survivors."""
    deadline = time.monotonic() + seconds
    while left := find():
        signal_processes(left.values(), signal.SIGKILL)
        if time.monotonic() > deadline:
            return left
        time.sleep(0.02)
    return {}


def await_signal(numbers: Collection[int], seconds: float) -> int | None:
    """Wait for one of the blocked signals ``numbers``; return its number, or ``None`` after ``seconds``.

    A process that is suspended while it waits (SIGSTOP, ``scontrol suspend``) and resumed after the time is over gets
    an uninitialised number from ``signal.sigtimedwait`` (CPython does not check it), here taken as no signal.
    """
    caught = signal.sigtimedwait(numbers, seconds)
    return caught.si_signo if caught is not None and caught.si_signo in numbers else None
