"""What Linux knows about processes: who descends from whom, who belongs to a run, and who must not outlive a parent."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from saman.runs import variables

_LIBC = ctypes.CDLL(None)  # loaded here, for nothing may be loaded between fork and exec
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class ProcessInfo:
    """A process as seen in /proc. ``started`` (clock ticks since boot) tells it from a later one of the same pid."""

    pid: int
    parent: int
    state: str
    started: int
    cpu_ticks: int = 0


def see(pid: int) -> ProcessInfo | None:
    """The process with this pid; ``None`` where there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()  # the name before it may hold anything
    return ProcessInfo(pid, int(fields[1]), fields[0], int(fields[19]), int(fields[11]) + int(fields[12]))


def everybody() -> dict[int, ProcessInfo]:
    """Every process that is here, by pid; zombies are left out."""
    pids = (int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit())
    seen = (see(pid) for pid in pids)
    return {one.pid: one for one in seen if one is not None and one.state not in ("Z", "X")}


def descendants(of: Iterable[int], among: dict[int, ProcessInfo] | None = None) -> dict[int, ProcessInfo]:
    """Every live process below the given ones, without these."""
    among = everybody() if among is None else among
    above = set(of)
    found: dict[int, ProcessInfo] = {}
    while True:
        more = {pid: one for pid, one in among.items() if one.parent in above and pid not in found}
        if not more:
            return {pid: one for pid, one in found.items() if pid not in set(of)}
        found |= more
        above |= set(more)


def members(run: Path, attempt: int, **more: str) -> dict[int, ProcessInfo]:
    """Every live process of an attempt, but this one: those whose environment names it, and all below them.

    ``more`` variables narrow it down, such as ``variables.PROCESS`` to one process of the attempt and what it started.
    """
    wanted = {variables.RUN: str(run), variables.ATTEMPT: str(attempt), **more}
    marks = {f"{name}={value}".encode(errors="surrogateescape") for name, value in wanted.items()}
    among = everybody()
    marked = {pid: one for pid, one in among.items() if marks <= _environment(pid)}
    found = marked | descendants(marked, among)
    found.pop(os.getpid(), None)
    return found


def guard(find: Callable[[], dict[int, ProcessInfo]]) -> None:
    """Fork a process that kills what ``find`` finds once this one is gone, even by SIGKILL."""
    watched, held = os.pipe()
    if os.fork():
        os.close(watched)  # the other end stays open until the kernel closes it
        return
    try:
        os.setsid()
        os.dup2(watched, 0)
        os.closerange(1, 4096)  # nobody may wait for what the guard holds open
        os.read(0, 1)
        kill_until_gone(find, seconds=5.0)
    finally:
        os._exit(0)


def _environment(pid: int) -> set[bytes]:
    try:
        return set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
    except OSError:
        return set()


def send(processes: Iterable[ProcessInfo], number: int) -> None:
    """Signal those of the processes that are still the ones that were seen."""
    for one in processes:
        now = see(one.pid)
        if now is not None and now.started == one.started:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(one.pid, number)


def kill_until_gone(find: Callable[[], dict[int, ProcessInfo]], seconds: float) -> dict[int, ProcessInfo]:
    """SIGKILL what ``find`` finds until it finds nothing or the time is over; what is left then."""
    deadline = time.monotonic() + seconds
    while left := find():
        send(left.values(), signal.SIGKILL)
        if time.monotonic() > deadline:
            return left
        time.sleep(0.02)
    return {}


def die_with_parent(number: int) -> None:
    """Let the kernel send this process a signal when the thread that started it ends."""
    _prctl(_PR_SET_PDEATHSIG, number)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends, so that none gets lost."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    # Where there is no prctl (not Linux), runs still work; they only clean up less.
    with contextlib.suppress(AttributeError):
        _LIBC.prctl(option, ctypes.c_ulong(value), 0, 0, 0)
