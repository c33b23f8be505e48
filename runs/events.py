"""Events of a run, written by submitter, supervisor and ranks, and the state that follows from them.

Plain dataclasses, because every rank imports this file before its work begins.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar, TypeGuard, TypeVar

SCHEMA = 1
# Writers of events besides the ranks (``rank 3``)
SUBMITTER, SUPERVISOR, JOB, REGISTRY, PUBLISHER, USER = (
    "submitter",
    "supervisor",
    "job",
    "registry",
    "publisher",
    "user",
)
Facts = TypeVar("Facts")


class State(str, Enum):
    """State of a run."""

    CREATED = "created"
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PREEMPTED = "preempted"

    @property
    def ended(self) -> bool:
        """Whether the run is over by its events, unless a user resumes it."""
        return self in (State.COMPLETED, State.FAILED, State.CANCELLED)


def state_in_words(state: str) -> str:
    """Return the predicate of a sentence about a run whose events give this state.

    >>> state_in_words("failed"), state_in_words("queued")
    ('has failed', 'is queued')
    """
    perfect = {"completed": "has completed", "failed": "has failed", "vanished": "has vanished"}
    return perfect.get(state) or (f"was {state}" if state in ("cancelled", "preempted") else f"is {state}")


class EventKind(str, Enum):
    """Every kind of event that is written, with its facts. Readers accept kinds that are not listed here."""

    CREATED = "created"  # code_path, directory, models_dir, step
    QUEUED = "queued"  # job, cluster, log, follow_ups, after
    ATTEMPT_STARTED = "attempt_started"  # host, ranks, method
    COMPLETED = "completed"
    FAILED = "failed"  # message or reason, exit_code, ranks
    CANCELLED = "cancelled"  # reason
    PREEMPTED = "preempted"  # reason
    RESTARTING = "restarting"  # an attempt failed, the next begins by itself: reason, cause, pause_seconds, error, step
    NOT_RESTARTED = "not_restarted"  # reason: why `launch.restart` begins no further attempt
    RANK_STARTED = "rank_started"  # rank, node, cores, gpus
    RANK_FAILED = "rank_failed"  # rank, failure (a FailureKind), message, step: by the rank
    RANK_EXITED = "rank_exited"  # rank, code or signal, last_lines: by the process that started the rank's program
    EPOCH = "epoch"  # epoch, step, metrics: by the chief
    VALIDATED = "validated"  # step, epoch, metrics: within an epoch, by the chief
    CHECKPOINT = "checkpoint"  # step, path, seconds, waited_seconds
    DAMAGED_CHECKPOINT = "damaged_checkpoint"  # path, problem
    RESUMED = "resumed"  # step, epoch
    STALLED = "stalled"  # rank, phase, seconds
    STALL_OVER = "stall_over"
    STRAGGLER = "straggler"  # rank, node, slower, step, ended: a rank becomes slower than its peers, or is no longer
    STOP_REQUESTED = "stop_requested"  # reason
    TAKEN_HERE = "taken_here"  # `saman resume --here` took the run away from Slurm
    FOLLOW_UPS = "follow_ups"  # jobs: each continues the run if the job before it is cut short
    TESTED = "tested"  # metrics
    EXPORTED = "exported"  # path
    PUBLISHED = "published"  # model, version
    NOT_PUBLISHED = "not_published"  # model, reason: `publish.if` or a gate decided against it
    PUBLISH_FAILED = "publish_failed"  # reason, exit_code: publishing could not be done
    EXCHANGE_MEASURED = "exchange_measured"  # rank, steps, step_seconds, compute_seconds, exposed_seconds
    NONFINITE = "nonfinite"  # step, variable, ranks, action (stop | rollback | report), steps: by the chief
    DIVERGED = "diverged"  # step, ranks: their weights differ from those of the others: by the chief
    ROLLED_BACK = "rolled_back"  # step, skipped: by the chief
    NODE_FAILED = "node_failed"  # node: lost by Slurm; avoided after the second time
    WORLD = "world"  # generation, cause, ranks, step, slots, lost, joined, detected, seconds: of an elastic run
    NOTICE = "notice"  # text: how the run is placed or started


# Kinds of events that change the state of a run; every other kind leaves it unchanged.
TRANSITIONS: Mapping[str, State] = {
    EventKind.CREATED: State.CREATED,
    EventKind.QUEUED: State.QUEUED,
    EventKind.ATTEMPT_STARTED: State.RUNNING,
    EventKind.COMPLETED: State.COMPLETED,
    EventKind.FAILED: State.FAILED,
    EventKind.CANCELLED: State.CANCELLED,
    EventKind.PREEMPTED: State.PREEMPTED,
    EventKind.RESTARTING: State.RUNNING,
}


@dataclass(frozen=True)
class Event:
    """An event of a run: ``time`` in Unix seconds, ``who`` wrote it, and facts that depend on the kind.

    >>> Event.from_json(Event("checkpoint", "rank 0", 1.0, facts={"step": 7}).to_json()).facts
    {'step': 7}
    """

    kind: str
    who: str
    time: float = field(default_factory=time.time)
    attempt: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    _own: ClassVar[frozenset[str]] = frozenset({"schema", "kind", "who", "time", "attempt"})

    def __post_init__(self) -> None:
        if clash := self._own & set(self.facts):
            raise ValueError(f"facts of an event may not be called {sorted(clash)}")

    def to_json(self) -> dict[str, Any]:
        """Return the event as a line of ``events.jsonl`` holds it."""
        head = {"schema": SCHEMA, "time": self.time, "kind": self.kind, "who": self.who}
        return {**head, **({} if self.attempt is None else {"attempt": self.attempt}), **self.facts}

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Event | None:
        """Take the event out of a line; ``None`` if the line is no event of this schema."""
        time, attempt = line.get("time"), line.get("attempt")
        if line.get("schema") != SCHEMA or not isinstance(line.get("kind"), str) or not _is_time(time):
            return None
        if not (attempt is None or type(attempt) is int):
            return None
        facts = {key: value for key, value in line.items() if key not in cls._own}
        return cls(line["kind"], str(line.get("who", "")), float(time), attempt, facts)


def _is_time(value: Any) -> TypeGuard[float]:
    """Whether a value is a time in Unix seconds, before the year 10000: a calendar has to show it."""
    return type(value) in (int, float) and 0 <= value < 253_402_300_800


def state_of(events: Iterable[Event]) -> State:
    """Derive the state of a run from its events in the order of writing.

    >>> state_of([Event("created", "submitter"), Event("attempt_started", "supervisor")])
    <State.RUNNING: 'running'>
    """
    state = State.CREATED
    for event in events:
        state = TRANSITIONS.get(event.kind, state)
    return state


def find_last(read: Callable[[Event], Facts | None], events: Sequence[Event]) -> Facts | None:
    """Return the facts of the newest event that ``read`` understands; ``None`` if there is none.

    Args:
        read: ``from_event`` of a type of facts, such as ``EpochEnd.from_event``.
        events: The events, oldest first.
    """
    return next((facts for event in reversed(events) if (facts := read(event)) is not None), None)
