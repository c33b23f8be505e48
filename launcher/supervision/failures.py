"""Which rank failed first, and what to say about it. Pure.

The first failing rank is the earliest failure that is not the loss of a peer; ties are listed.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from saman.runs.events import Event
from saman.runs.ranks.records import RankRecord

TIE_SECONDS = 1.0  # failures this close are one: clocks of nodes differ, and a shared cause takes a moment

# What programs print when a peer went away; looked for in the last lines of those that did not say so themselves.
_PEER_LOST = re.compile(
    "|".join(
        (
            r"HorovodInternalError",
            r"Horovod has been shut down",
            r"Connection (reset|closed) by peer",
            r"gloo.*(timed out|Connection refused|Broken pipe)",
            r"ncclSystemError|ncclRemoteError|remote process exited",
            r"Collective ops is aborted",
            r"UnavailableError.*(Socket closed|failed to connect)",
            r"CoordinationService.*(heartbeat timeout|disconnected|unavailable)",
            r"MPI_ERR_PROC_FAILED|PMIx_Abort|ORTE has lost communication",
        )
    ),
    re.IGNORECASE,
)
_HINTS = {
    signal.SIGKILL: "often the kernel's or Slurm's out-of-memory killer: fewer ranks per node or a smaller batch",
    signal.SIGSEGV: "a fault in compiled code",
    signal.SIGBUS: "often a full /dev/shm or disk behind mapped memory",
    signal.SIGILL: "compiled code for another kind of processor",
    signal.SIGABRT: "compiled code gave up; its reason is in the last lines",
    signal.SIGTERM: "somebody asked it to end",
    signal.SIGXCPU: "its limit of processor time (ulimit -t)",
    signal.SIGXFSZ: "its limit of file size (ulimit -f)",
    signal.SIGPIPE: "who read its output went away",
}
_CODES = {126: "not executable", 127: "command not found", 120: "its output could not be written: is the disk full?"}


@dataclass(frozen=True)
class FailedRank:
    """How one process failed. ``kind`` is error, user_error, misplaced, killed, or peer_lost."""

    rank: int
    node: str
    time: float
    kind: str
    code: int | None = None
    signal: int | None = None
    message: str | None = None
    last_lines: tuple[str, ...] = ()

    @property
    def ending(self) -> str:
        """Exit code or signal, with what it often means."""
        return ending(self.code, self.signal)

    def to_json(self) -> dict[str, Any]:
        """What ``summary.json`` holds of it."""
        facts = {"rank": self.rank, "node": self.node, "time": self.time, "kind": self.kind, "ending": self.ending}
        return {
            **facts,
            "code": self.code,
            "signal": self.signal,
            "message": self.message,
            "last_lines": list(self.last_lines),
        }


@dataclass(frozen=True)
class Failure:
    """The first failing ranks (several only where they tie), and how many others failed in their wake."""

    first: tuple[FailedRank, ...]
    others: int = 0

    def sentence(self) -> str:
        """One line for people: who, where, how."""
        one = self.first[0]
        tie = f" (and at the same time {_ranks(self.first[1:])})" if len(self.first) > 1 else ""
        lost = "; every failure looks like the loss of a peer, this is the earliest" if one.kind == "peer_lost" else ""
        how = one.message if one.kind in ("user_error", "misplaced") and one.message else one.ending
        return f"rank {one.rank} on {one.node} failed first{tie}: {how}{lost}"

    def to_json(self) -> dict[str, Any]:
        """What ``summary.json`` holds."""
        return {"sentence": self.sentence(), "first": [one.to_json() for one in self.first], "others": self.others}


def ending(code: int | None, number: int | None) -> str:
    """``exit code 3``, or ``killed by SIGKILL (9): …`` with what it often means."""
    if number is None and code is not None and 128 < code < 128 + 65:
        number = code - 128  # how shells and some starters report a signal
    if number is not None:
        try:
            name, hint = signal.Signals(number).name, _HINTS.get(signal.Signals(number))
        except ValueError:
            name, hint = "signal", None
        return f"killed by {name} ({number})" + (f": {hint}" if hint else "")
    if code is None:
        return "ended without a trace"
    return f"exit code {code}" + (f": {_CODES[code]}" if code in _CODES else "")


def find_failure(events: Iterable[Event], records: Mapping[int, RankRecord] | None = None) -> Failure | None:
    """The failure that the events of one attempt (and the records of its processes) tell of; ``None`` without one."""
    failed = sorted(_failures(list(events), records or {}), key=lambda one: (one.time, one.rank))
    if not failed:
        return None
    own = [one for one in failed if one.kind != "peer_lost"] or failed[:1]
    first = tuple(one for one in own if one.time - own[0].time <= TIE_SECONDS)
    return Failure(tuple(sorted(first, key=lambda one: one.rank)) if len(own) > 1 else first, len(failed) - len(first))


def _failures(events: Sequence[Event], records: Mapping[int, RankRecord]) -> Iterable[FailedRank]:
    """Each failed process once: its own account (``rank_failed``), joined with how it ended."""
    told = _first_by_rank(event for event in events if event.kind == "rank_failed")
    ended = _first_by_rank(event for event in events if event.kind == "rank_exited")
    for rank in sorted({*told, *ended, *records}):
        record, account, exit_ = records.get(rank), told.get(rank), ended.get(rank)
        facts = dict(exit_.facts) if exit_ else {}
        if not facts and record is not None and record.has_ended:  # its event was lost
            facts = {"node": record.node, "code": record.code, "signal": record.signal, "stopped": record.stopped}
            facts["last_lines"] = record.last_lines
        code, number = facts.get("code"), facts.get("signal")
        if account is None and (not facts or code in (0, 85)):
            continue
        lines = tuple(str(line) for line in facts.get("last_lines", ()))
        when = account.time if account else exit_.time if exit_ else (record.ended if record and record.ended else 0.0)
        said = account.facts if account else {}
        yield FailedRank(
            rank=rank,
            node=str(said.get("node") or facts.get("node") or (record.node if record else "?")),
            time=when,
            kind=_kind(said.get("failure"), bool(facts.get("stopped")), number, lines),
            code=code,
            signal=number,
            message=said.get("message"),
            last_lines=lines,
        )


def _kind(said: str | None, stopped: bool, number: int | None, lines: Sequence[str]) -> str:
    if said is not None:
        return str(said)
    # Who was told to stop ended because of somebody else.
    if stopped or any(_PEER_LOST.search(line) for line in lines):
        return "peer_lost"
    return "killed" if number is not None else "error"


def _first_by_rank(events: Iterable[Event]) -> dict[int, Event]:
    found: dict[int, Event] = {}
    for event in events:
        rank = event.facts.get("rank")
        if isinstance(rank, int):
            found.setdefault(rank, event)
    return found


def _ranks(failed: Sequence[FailedRank]) -> str:
    numbers = [one.rank for one in failed]
    if len(numbers) > 3 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"ranks {numbers[0]}–{numbers[-1]}"
    return ("rank " if len(numbers) == 1 else "ranks ") + ", ".join(map(str, numbers))
