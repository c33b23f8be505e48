"""Decides whether a job starts an attempt, which nodes the last attempt lost, and why Slurm ended this job. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from saman.runs.events import SUBMITTER, SUPERVISOR, Event, EventKind, State, state_of
from saman.runs.ranks.training_events import CheckpointSave
from saman.runs.records.run_events import NodeLoss
from saman.slurm.site.client import NodeState
from saman.slurm.site.job_states import JobState, job_state

SILENT_SECONDS = 12.0  # a node that was silent this much longer than another node failed first
EXCLUDED_AFTER = 2  # failures of a node in a run; after that the node is excluded


class Begin(str, Enum):
    """The action of a job that has just started."""

    GO = "go"
    NOT_NEEDED = "not needed"  # the run has ended; this is a follow-up, or an old script
    USED_UP = "used up"  # all allowed attempts were made
    ELSEWHERE = "elsewhere"  # the allocation has a node that failed twice


@dataclass(frozen=True)
class Decision:
    """The action, the reason, and for ``ELSEWHERE`` the nodes to exclude."""

    begin: Begin
    reason: str = ""
    avoid: tuple[str, ...] = ()


def decide_start(events: Sequence[Event], attempts: int, allowed: int, nodes: Iterable[str]) -> Decision:
    """Decide whether a job starts an attempt.

    Args:
        events: the run's events.
        attempts: number of attempts so far.
        allowed: number of attempts without progress that the cluster file allows.
        nodes: names of the job's nodes.
    """
    state = state_of(events)
    if state.ended:
        return Decision(Begin.NOT_NEEDED, f"the run is already {state.value}")
    if attempts >= allowed + _uncounted_attempts(events):
        return Decision(Begin.USED_UP, f"all {allowed} attempts allowed by the cluster file were made without progress")
    bad = nodes_failed_twice(events)
    here = tuple(sorted(bad & set(nodes)))
    if here:
        names = ", ".join(here)
        reason = f"node failures in this run: {names} ({EXCLUDED_AFTER} or more); requesting other nodes"
        return Decision(Begin.ELSEWHERE, reason, tuple(sorted(bad)))
    return Decision(Begin.GO)


def _uncounted_attempts(events: Sequence[Event]) -> int:
    """Attempts that do not count against the limit: those up to the last with progress, or up to the last submission.

    An attempt makes progress with a checkpoint of a later step than all before it. saman does not see into a user's
    own program: there, a checkpoint that was asked for, and ended the attempt with 85, is progress.
    """
    made = uncounted = restarted = 0
    newest_step = -1
    asked = False
    for event in events:
        if event.kind == EventKind.ATTEMPT_STARTED:
            made, asked = made + 1, False
        elif event.kind == EventKind.RESTARTING:  # the next attempt counts for launch.restart instead
            restarted += 1
        elif event.kind == EventKind.QUEUED and event.who == SUBMITTER:
            uncounted, restarted = made, 0
        elif event.kind == EventKind.STOP_REQUESTED:
            asked = True
        elif event.kind == EventKind.PREEMPTED and event.who == SUPERVISOR and asked:
            uncounted, restarted = made, 0
        elif (saved := CheckpointSave.from_event(event)) is not None and saved.step > newest_step:
            newest_step, uncounted, restarted = saved.step, made, 0
    return uncounted + restarted


def was_lost(events: Sequence[Event]) -> bool:
    """Whether the last attempt left no record of its end: its node failed, or it was killed."""
    return state_of(events) is State.RUNNING


def nodes_failed_twice(events: Iterable[Event]) -> set[str]:
    """Nodes that failed ``EXCLUDED_AFTER`` times or more."""
    losses = Counter(loss.node for event in events if (loss := NodeLoss.from_event(event)) is not None)
    return {node for node, count in losses.items() if count >= EXCLUDED_AFTER}


def find_failed_nodes(shown: Mapping[str, NodeState], last_alive: Mapping[str, float], started: float) -> set[str]:
    """Find the nodes of a lost attempt that failed.

    Args:
        shown: the state of each node in the controller. A node failed if it is unavailable, or if its daemon restarted
            after ``started``.
        last_alive: the last sign of life per node (Unix seconds), for when Slurm does not answer. The other nodes lived
            on, because Slurm takes a while to notice a failure.
        started: when the attempt started (Unix seconds).
    """
    if shown:
        return {
            name
            for name, node in shown.items()
            if not node.available or (node.daemon_started is not None and node.daemon_started > started)
        }
    if len(last_alive) < 2:
        return set()
    newest = max(last_alive.values())
    return {node for node, alive in last_alive.items() if newest - alive > SILENT_SECONDS}


class Cause(str, Enum):
    """Why Slurm ends a job."""

    CANCELLED = "cancelled"
    PREEMPTED = "preempted"
    TIME_LIMIT = "time limit"
    NODE_FAILURE = "node failure"
    UNKNOWN = "unknown"


_MARK = re.compile(r"\*\*\* JOB (\d+) ON \S+ CANCELLED AT \S+(?: DUE TO ([A-Z ]+)[^*]*)? \*\*\*")
_DUE_TO = {"PREEMPTION": Cause.PREEMPTED, "TIME LIMIT": Cause.TIME_LIMIT, "NODE FAILURE": Cause.NODE_FAILURE}


def find_cause(
    shown: Mapping[str, str], restarts_at_start: int, recorded: str | None, log_tail: str, job: str
) -> Cause:
    """Find why Slurm sent SIGTERM.

    Args:
        shown: ``scontrol show job``. A requeued job has more restarts than when it began.
        restarts_at_start: the restarts when it began.
        recorded: the state in accounting, which lags by a second or two.
        log_tail: the end of the job's log. Slurm writes the cause into it at once, but only on the first node.
        job: the job id in the log.
    """
    if _int(shown.get("Restarts", "")) > restarts_at_start:
        return Cause.PREEMPTED
    state = job_state(recorded or "")
    by_accounting = {
        JobState.CANCELLED: Cause.CANCELLED, JobState.PREEMPTED: Cause.PREEMPTED, JobState.TIMEOUT: Cause.TIME_LIMIT,
        JobState.NODE_FAIL: Cause.NODE_FAILURE,
    }.get(state)  # fmt: skip
    if by_accounting is not None:
        return by_accounting
    marks = [match for match in _MARK.finditer(log_tail) if match[1] == job]
    if marks:
        due = marks[-1][2]
        return Cause.CANCELLED if due is None else _DUE_TO.get(due, Cause.UNKNOWN)
    return Cause.UNKNOWN


def _int(text: str) -> int:
    return int(text) if text.isdigit() else 0
