"""Forwards a request to stop to a user's own program, as the signal ``launch.stop_signal``."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from saman.launcher.plan.placement import Process
from saman.launcher.supervision import processes
from saman.launcher.supervision.processes import ProcessInfo
from saman.runs import variables
from saman.runs.events import EventKind
from saman.runs.folder import Attempt, RunFolder
from saman.runs.ranks.board import BoardReader
from saman.runs.ranks.records import RankRecord

_SHELLS = frozenset({"sh", "bash", "dash", "ash", "ksh", "zsh"})
UNHEARD_SECONDS = 10.0  # after the request, until the user is told that no process handles the signal


@dataclass
class StopForwarding:
    """Forwards the request to stop of a run to the program of a rank.

    Only the first wrapper on a node reads the supervisor's board; it wakes the other wrappers of the node with SIGUSR1.
    Without a supervisor it looks for ``control/stop`` itself.
    The signal goes to processes that handle it, and to no others: it would end them without a checkpoint.
    """

    run: RunFolder
    attempt: Attempt
    own: Attempt
    process: Process
    here: tuple[Process, ...]
    board: BoardReader
    program: int  # pid
    number: signal.Signals | None
    _asked_at: float | None = None
    _delivered: bool = False
    _told: bool = False
    _woken: set[int] = field(default_factory=set)

    def look(self) -> None:
        """Look for a request, and pass it on; call this about once a second."""
        if self.number is None:
            return
        if self._asked_at is None and self.process.local_index == 0 and self._is_requested():
            self.request()
        if self._asked_at is None:
            return
        if self.process.local_index == 0:
            self._wake_neighbours()
        if not self._delivered:
            self._deliver()

    def _is_requested(self) -> bool:
        announced = self.board.read()
        return announced.stop if self.board.exists else self.run.stop_request.exists()

    def request(self) -> None:
        """Note the request to stop."""
        if self._asked_at is None:
            self._asked_at = time.monotonic()

    def _deliver(self) -> None:
        assert self.number is not None and self._asked_at is not None
        handling = handlers(self.program, self.number)
        for process in handling:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, self.number)
        self._delivered = bool(handling)
        if not handling and not self._told and time.monotonic() - self._asked_at > UNHEARD_SECONDS:
            self._told = True
            name, rank = self.number.name, self.process.first_rank
            text = f"rank {rank}: no process of the program handles {name} (launch.stop_signal); it runs on"
            self.run.append(EventKind.NOTICE, f"rank {rank}", self.attempt.number, text=text, rank=rank)

    def _wake_neighbours(self) -> None:
        for peer in self.here:
            if peer.index == self.process.index or peer.index in self._woken:
                continue
            record = RankRecord.read(self.own.rank_record(peer.first_rank))
            if record is not None and _is_wrapper(record.wrapper_pid, self.run.path):
                self._woken.add(peer.index)
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(record.wrapper_pid, signal.SIGUSR1)


def stop_signal(environ: Mapping[str, str]) -> signal.Signals | None:
    """The signal that asks the program to stop; ``None`` if none is wanted."""
    name = environ.get(variables.STOP_SIGNAL, "")
    return signal.Signals[f"SIG{name}"] if name and name != "none" else None


def handlers(program: int, number: int) -> list[int]:
    """The processes of a program that handle a signal: the program itself, else the topmost below it.

    A shell counts only if nothing below it handles the signal: with an EXIT trap, bash handles every fatal signal, and
    ends without waiting for the program that it started.
    """
    among = processes.list_processes()
    return _handlers(program, number, among) if program in among else []


def _handlers(pid: int, number: int, among: Mapping[int, ProcessInfo]) -> list[int]:
    handles = _handles(pid, number)
    if handles and not _is_shell(pid):
        return [pid]
    children = (child for child, process in among.items() if process.parent == pid)
    below = [found for child in children for found in _handlers(child, number, among)]
    return below or ([pid] if handles else [])


def _is_shell(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() in _SHELLS
    except OSError:
        return False


def _handles(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal: ``SigCgt`` in proc(5)."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False
    caught = next((line.split()[1] for line in lines if line.startswith("SigCgt:")), "0")
    return bool(int(caught, 16) >> (number - 1) & 1)


def _is_wrapper(pid: int, run: Path) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"saman.launcher.rank" in words and os.fsencode(run) in words
