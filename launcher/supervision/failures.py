"""Finds the first failing rank: the earliest failure that is not the loss of a peer. Ties are listed. Pure."""

from __future__ import annotations

import re
import signal
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, TypeVar

from saman.launcher.supervision.known_errors import find_starter_cause, hint_for
from saman.runs.events import Event
from saman.runs.ranks.rank_events import FailureKind, RankExited, RankFailed
from saman.runs.ranks.records import RankRecord

TIE_SECONDS = 1.0  # closer failures are a tie: clocks of nodes differ, and a shared cause takes a moment

# What programs print when a peer is lost; searched for in the last lines of ranks that reported no failure.
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
    signal.SIGTERM: "another process asked it to end",
    signal.SIGXCPU: "over its CPU time limit (ulimit -t)",
    signal.SIGXFSZ: "over its file size limit (ulimit -f)",
    signal.SIGPIPE: "the reader of its output has exited",
}
_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt|NotFound)\b(?::|$)")  # ends a traceback
LINE_LENGTH = 240  # of a line of output in a sentence
_CODES = {126: "not executable", 127: "command not found", 120: "its output could not be written: is the disk full?"}
# Kinds with a message that says more than the exit status.
_TELLING = (FailureKind.USER_ERROR, FailureKind.USER_CODE, FailureKind.MISPLACED)


@dataclass(frozen=True)
class FailedRank:
    """How a process failed."""

    rank: int
    node: str
    time: float
    kind: FailureKind
    code: int | None = None
    signal: int | None = None
    message: str | None = None
    last_lines: tuple[str, ...] = ()
    stopped: bool = False
    step: int | None = None  # that the rank had reached
    cause: str | None = None  # as the start method names it, for a rank that was killed or left no trace

    @property
    def ending(self) -> str:
        """Exit status or signal, with its cause or else its usual cause."""
        if self.cause is None:
            return describe_exit(self.code, self.signal)
        if self.signal is None:
            return f"ended without a trace: {self.cause}"
        return f"killed by {signal.Signals(self.signal).name} ({self.signal}): {self.cause}"

    @property
    def telling_line(self) -> tuple[str, ...]:
        """The line of output that names the error, and a hint if saman knows it; empty if no line does."""
        if self.signal is not None:
            return self._faulting_call
        if self.kind is not FailureKind.ERROR:
            return ()
        named = [number for number, line in enumerate(self.last_lines) if _EXCEPTION.match(line.strip())]
        if not named:
            return ()
        line, before = self.last_lines[named[-1]], self.last_lines[: named[-1]]
        return tuple(part for part in (line.strip()[:LINE_LENGTH], hint_for(line, before)) if part)

    @property
    def _faulting_call(self) -> tuple[str, ...]:
        """The Python call in which a signal ended the process, from the trace of Python's ``faulthandler``."""
        for line, following in pairwise(self.last_lines):
            if line.startswith("Current thread ") and following.strip().startswith("File "):
                return (following.strip()[:LINE_LENGTH],)
        return ()

    def to_json(self) -> dict[str, Any]:
        """The failure of a rank as an entry of ``summary.json``."""
        facts = {
            "rank": self.rank,
            "node": self.node,
            "time": self.time,
            "kind": self.kind.value,
            "ending": self.ending,
        }
        return {
            **facts,
            "code": self.code,
            "signal": self.signal,
            "message": self.message,
            "last_lines": list(self.last_lines),
        }


@dataclass(frozen=True)
class Failure:
    """The first failing ranks (several if they tie), and the number of ranks that failed after them."""

    first: tuple[FailedRank, ...]
    others: int = 0

    def sentence(self) -> str:
        """A line for people: rank, node and cause."""
        first = self.first[0]
        tie = f" (and at the same time {_ranks(self.first[1:])})" if len(self.first) > 1 else ""
        lost = "; every failure looks like the loss of a peer; this failure is the earliest"
        how = first.message if first.kind in _TELLING and first.message else first.ending
        if how == first.ending:
            how += "".join(f": {line}" for line in first.telling_line)
        note = lost if first.kind is FailureKind.PEER_LOST else ""
        return f"rank {first.rank} on {first.node} failed first{tie}: {how}{note}"

    def to_json(self) -> dict[str, Any]:
        """The failure as an entry of ``summary.json``."""
        return {
            "sentence": self.sentence(),
            "first": [failed.to_json() for failed in self.first],
            "others": self.others,
        }


def describe_exit(code: int | None, number: int | None) -> str:
    """``exit code 3``, or ``killed by SIGKILL (9): …``, with the usual cause."""
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


def find_failure(
    events: Iterable[Event],
    records: Mapping[int, RankRecord] | None = None,
    starter_lines: Iterable[str] = (),
    lost: Collection[int] = (),
) -> Failure | None:
    """The failure of an attempt; ``None`` if nothing failed.

    Args:
        events: the events of the attempt.
        records: its rank records.
        starter_lines: the last lines of its start method.
        lost: the ranks without which it went on.
    """
    cause = find_starter_cause(starter_lines)
    failures = (rank for rank in _failed_ranks(list(events), records or {}) if rank.rank not in lost)
    found = (_explained(rank, cause) for rank in failures)
    failed = sorted(found, key=lambda rank: (rank.time, rank.rank))
    if not failed:
        return None
    causes = [rank for rank in failed if rank.kind is not FailureKind.PEER_LOST] or failed[:1]
    first = tuple(rank for rank in causes if rank.time - causes[0].time <= TIE_SECONDS)
    if len(causes) > 1:
        first = tuple(sorted(first, key=lambda rank: rank.rank))
    return Failure(first, len(failed) - len(first))


def _explained(rank: FailedRank, cause: str | None) -> FailedRank:
    """Add the cause that the start method or the wrapper reports, for a rank that could not report its own end."""
    if rank.kind in _TELLING or not (rank.signal == signal.SIGKILL or (rank.signal is None and rank.code is None)):
        return rank
    own = "it did not end in time after the request to stop" if rank.stopped and rank.signal else None
    return replace(rank, cause=cause or own)


def _failed_ranks(events: Sequence[Event], records: Mapping[int, RankRecord]) -> Iterable[FailedRank]:
    """Each failed process once: its own report (``rank_failed``), joined with its exit (``rank_exited``)."""
    reports = _first_by_rank(RankFailed.from_event(event) for event in events)
    exits = _first_by_rank(RankExited.from_event(event) for event in events)
    for rank in sorted({*reports, *exits, *records}):
        report, record = reports.get(rank), records.get(rank)
        exited = exits.get(rank) or _recorded_exit(record)
        if report is None and (exited is None or not exited.failed):
            continue
        yield _failed_rank(rank, report, exited, record)


def _recorded_exit(record: RankRecord | None) -> RankExited | None:
    """The exit from the wrapper's record, if the event was lost."""
    if record is None or not record.has_ended:
        return None
    return RankExited(
        rank=record.first_rank,
        node=record.node,
        code=record.code,
        signal=record.signal,
        stopped=record.stopped,
        last_lines=record.last_lines,
        time=record.ended or 0.0,
    )


def _failed_rank(
    rank: int, report: RankFailed | None, exited: RankExited | None, record: RankRecord | None
) -> FailedRank:
    nodes = (report and report.node, exited and exited.node, record and record.node)
    return FailedRank(
        rank=rank,
        node=str(next((node for node in nodes if node), "?")),
        time=report.time if report else exited.time if exited else 0.0,
        kind=_kind(report, exited),
        code=exited.code if exited else None,
        signal=exited.signal if exited else None,
        message=report.message if report else None,
        last_lines=exited.last_lines if exited else (),
        stopped=exited.stopped if exited else False,
        step=report.step if report else None,
    )


def find_own_errors(events: Iterable[Event], records: Mapping[int, RankRecord]) -> tuple[tuple[int, str], ...]:
    """The Python error of each process that failed by itself, the first failing process first.

    Args:
        events: The events of the attempt.
        records: Its rank records.
    """
    failed = sorted(_failed_ranks(list(events), records), key=lambda rank: (rank.time, rank.rank))
    found = ((rank.rank, rank.message or next(iter(rank.telling_line), None)) for rank in failed if _own_error(rank))
    return tuple((rank, text) for rank, text in found if text)


def _own_error(rank: FailedRank) -> bool:
    return rank.signal is None and not rank.stopped and rank.kind in (FailureKind.ERROR, *_TELLING)


def _kind(report: RankFailed | None, exited: RankExited | None) -> FailureKind:
    if report is not None and report.kind is not None:
        return report.kind
    if exited is None:
        return FailureKind.ERROR
    # A process that was asked to stop ended because of another process.
    if exited.stopped or any(_PEER_LOST.search(line) for line in exited.last_lines):
        return FailureKind.PEER_LOST
    return FailureKind.KILLED if exited.signal is not None else FailureKind.ERROR


T = TypeVar("T", RankFailed, RankExited)


def _first_by_rank(found: Iterable[T | None]) -> dict[int, T]:
    first: dict[int, T] = {}
    for facts in found:
        if facts is not None:
            first.setdefault(facts.rank, facts)
    return first


def _ranks(failed: Sequence[FailedRank]) -> str:
    numbers = [rank.rank for rank in failed]
    if len(numbers) > 3 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"ranks {numbers[0]}–{numbers[-1]}"
    return ("rank " if len(numbers) == 1 else "ranks ") + ", ".join(map(str, numbers))
