"""The life of a run over several starts: whether this start is needed, what the last one lost, why this one ended.

Pure decisions over events and what Slurm said; ``slurm/job.py`` asks and acts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from saman.runs.events import Event, State, state_of
from saman.slurm.site.client import moment
from saman.slurm.site.job_states import JobState, job_state

EXCLUDED_AFTER = 2  # losses of a node in one run, after which it is not used any more


class Begin(str, Enum):
    """What a job that has just started should do."""

    GO = "go"
    NOT_NEEDED = "not needed"  # the run has ended; this was a follow-up, or an old script
    USED_UP = "used up"  # as many starts as allowed
    ELSEWHERE = "elsewhere"  # a node that failed twice is among ours


@dataclass(frozen=True)
class Decision:
    """What to do, why, and for ``ELSEWHERE`` which nodes to avoid."""

    begin: Begin
    reason: str = ""
    avoid: tuple[str, ...] = ()


def on_start(events: Sequence[Event], attempts: int, allowed: int, nodes: Iterable[str]) -> Decision:
    """What a job on ``nodes`` should do for a run with these events after ``attempts`` starts."""
    state = state_of(events)
    if state.ended:
        return Decision(Begin.NOT_NEEDED, f"the run is {state.value} already")
    if attempts >= allowed + _earlier_attempts(events):
        return Decision(Begin.USED_UP, f"all {allowed} attempts that the cluster file allows were used")
    bad = failed_twice(events)
    here = tuple(sorted(bad & set(nodes)))
    if here:
        reason = f"{', '.join(here)} failed {EXCLUDED_AFTER} times in this run and is left out"
        return Decision(Begin.ELSEWHERE, reason, tuple(sorted(bad)))
    return Decision(Begin.GO)


def _earlier_attempts(events: Sequence[Event]) -> int:
    """Attempts made before somebody resumed the run by hand: these do not count against the limit."""
    made = 0
    earlier = 0
    for event in events:
        if event.kind == "attempt_started":
            made += 1
        elif event.kind == "queued" and event.who == "submitter":
            earlier = made
    return earlier


def was_lost(events: Sequence[Event]) -> bool:
    """Whether the last start neither ended nor was stopped: its node died, or it was killed without warning."""
    return state_of(events) is State.RUNNING


def failed_twice(events: Iterable[Event]) -> set[str]:
    """Nodes that were lost as often as is too often."""
    losses = Counter(str(event.facts.get("node")) for event in events if event.kind == "node_failed")
    return {node for node, count in losses.items() if count >= EXCLUDED_AFTER}


_GONE = re.compile(r"DOWN|FAIL|DRAIN|NOT_RESPONDING|\*")


def suspects(shown: Mapping[str, Mapping[str, str]], last_alive: Mapping[str, float], started: float) -> set[str]:
    """Nodes of a lost start that died.

    ``shown`` is ``scontrol show node`` per node: down, draining or not answering, or its daemon started again since
    ``started`` (Unix seconds). Where Slurm cannot be asked, ``last_alive`` per node tells: the others showed signs of
    life for longer, because Slurm needs time to notice.
    """
    if shown:
        found = set()
        for node, fields in shown.items():
            restarted = moment(fields.get("SlurmdStartTime", "")) or 0.0
            if _GONE.search(fields.get("State", "")) or restarted > started:
                found.add(node)
        return found
    if len(last_alive) < 2:
        return set()
    newest = max(last_alive.values())
    return {node for node, alive in last_alive.items() if newest - alive > 12.0}


class Cause(str, Enum):
    """Why the nodes are being taken away."""

    CANCELLED = "cancelled"
    PREEMPTED = "preempted"
    TIME_LIMIT = "time limit"
    NODE_FAILURE = "node failure"
    UNKNOWN = "unknown"


_MARK = re.compile(r"\*\*\* JOB (\d+) ON \S+ CANCELLED AT \S+(?: DUE TO ([A-Z ]+)[^*]*)? \*\*\*")
_DUE_TO = {"PREEMPTION": Cause.PREEMPTED, "TIME LIMIT": Cause.TIME_LIMIT, "NODE FAILURE": Cause.NODE_FAILURE}


def cause(shown: Mapping[str, str], restarts_at_start: int, recorded: str | None, log_tail: str, job: str) -> Cause:
    """Why Slurm sent SIGTERM, by what it shows of the job, what accounting says, and what it wrote into the job's log.

    A job that Slurm takes back has one restart more than when it began; accounting says the rest a second or two
    later; the log has it at once, but only on the first node.
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
