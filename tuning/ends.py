"""How the run of a trial stands: under way, whole, stopped, killed or failed. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from saman.jobs.status import RunState, RunStatus
from saman.runs.events import SUPERVISOR, TRANSITIONS, USER, Event, EventKind
from saman.runs.records.run_events import StopCause, StopRequest, newest_event

# Kinds of a first failing rank that say nothing about the trial: its peers, nodes or placement failed.
_NOT_ITS_OWN = frozenset({"peer_lost", "misplaced"})


class EndKind(Enum):
    """How the last start of a run stands."""

    OPEN = "open"
    COMPLETE = "complete"
    STOPPED = "stopped"  # at a checkpoint on request; to be continued
    KILLED = "killed"  # by a signal, with its node or with its job
    FAILED = "failed"  # by its own program
    CANCELLED = "cancelled"  # by the user


@dataclass(frozen=True)
class TrialEnd:
    """The end of a start, with a sentence on it."""

    kind: EndKind
    detail: str = ""


def judge(status: RunStatus, events: Sequence[Event], failure: Mapping[str, Any] | None) -> TrialEnd:
    """Tell how the last start of a trial's run stands.

    Args:
        status: The status of the run.
        events: Its events, oldest first.
        failure: ``failure`` of its summary.

    Returns:
        The end. A failure that the supervisor saw counts as the program's own unless a signal ended its first failing
        rank; an end that only Slurm or nobody saw counts as killed.
    """
    if not status.over:
        return TrialEnd(EndKind.OPEN)
    if status.state is RunState.COMPLETED:
        return TrialEnd(EndKind.COMPLETE)
    if status.state is RunState.PREEMPTED:
        return TrialEnd(EndKind.STOPPED, status.detail)
    if status.state is RunState.CANCELLED:
        kind = EndKind.CANCELLED if _by_user(events) else EndKind.KILLED
        return TrialEnd(kind, status.detail or "its job was cancelled")
    last = newest_event(events, EventKind.FAILED)
    if status.state is RunState.FAILED and last is not None and last.who == SUPERVISOR:
        return TrialEnd(_of_failure(failure), status.detail)
    return TrialEnd(EndKind.KILLED, status.detail)


def _of_failure(failure: Mapping[str, Any] | None) -> EndKind:
    first = [rank for rank in (failure or {}).get("first", []) if isinstance(rank, dict)]
    if not first:  # processes ended without a trace
        return EndKind.KILLED
    own = [rank for rank in first if rank.get("signal") is None and rank.get("kind") not in _NOT_ITS_OWN]
    return EndKind.FAILED if own else EndKind.KILLED


def _by_user(events: Sequence[Event]) -> bool:
    """Whether a user asked for this end, since the last start: not Slurm, and not this study by pruning."""
    for event in reversed(events):
        request = StopRequest.from_event(event)
        if request is not None and request.who == USER:
            return request.cause is StopCause.CANCELLED
        if event.kind == EventKind.CANCELLED and event.who == USER:
            return True
        if event.kind in (EventKind.ATTEMPT_STARTED, EventKind.QUEUED):
            return False
    return False


def node_seconds(events: Sequence[Event], nodes: int, now: float, over: bool) -> float:
    """Node-seconds of all starts of a run; a start without a recorded end lasted until its last event.

    Args:
        events: The events of the run, oldest first.
        nodes: Nodes of each start.
        now: Unix time in seconds, until which a run under way is counted.
        over: Whether the run is over.
    """
    total, began = 0.0, None
    for event in events:
        if began is not None and event.kind in TRANSITIONS:
            total += event.time - began
            began = None
        if event.kind == EventKind.ATTEMPT_STARTED:
            began = event.time
    if began is not None:
        total += max(0.0, (events[-1].time if over else now) - began)
    return nodes * total
