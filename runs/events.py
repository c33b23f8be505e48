"""The one record format: what submitter, supervisor and ranks write about a run, and how it is read back.

Plain dataclasses, because every rank imports this file before its work begins.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar

SCHEMA = 1


class State(str, Enum):
    """Where a run stands."""

    CREATED = "created"
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PREEMPTED = "preempted"

    @property
    def ended(self) -> bool:
        """Whether nothing more happens unless somebody resumes the run."""
        return self in (State.COMPLETED, State.FAILED, State.CANCELLED)


# Kinds of events that move a run to another state; every other kind leaves it where it is.
TRANSITIONS = {
    "created": State.CREATED,
    "queued": State.QUEUED,
    "attempt_started": State.RUNNING,
    "completed": State.COMPLETED,
    "failed": State.FAILED,
    "cancelled": State.CANCELLED,
    "preempted": State.PREEMPTED,
}
KINDS = frozenset(TRANSITIONS) | {
    "rank_started",  # rank, node, cores, gpus
    "rank_failed",  # rank, failure (user_error | error | peer_lost | misplaced), message: written by the rank itself
    "rank_exited",  # rank, code or signal, last_lines: written by the process that started the rank's program
    "epoch",  # epoch, step, metrics: written by the chief
    "checkpoint",  # step, path
    "damaged_checkpoint",  # path, problem
    "resumed",  # step, epoch
    "stalled",  # rank, phase, seconds
    "stop_requested",  # reason
    "taken_here",  # a run that was Slurm's goes on where `saman resume --here` was typed
    "follow_ups",  # jobs: submitted to go on with the run where the job before was cut short
    "exported",  # path
    "published",  # model, version
    "not_published",  # reason
    "exchange_measured",  # rank, steps, step_seconds, compute_seconds, exposed_seconds: before the first step
    "node_failed",  # node: Slurm lost it; after the second time it is avoided
    "notice",  # text: what a person should know about how the run is done
}


@dataclass(frozen=True)
class Event:
    """Something that happened to a run: ``time`` in Unix seconds, the writer, and facts that depend on the kind."""

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
        """One line of ``events.jsonl``."""
        head = {"schema": SCHEMA, "time": self.time, "kind": self.kind, "who": self.who}
        return {**head, **({} if self.attempt is None else {"attempt": self.attempt}), **self.facts}

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Event | None:
        """The event of a line; ``None`` where the line is no event of this schema."""
        if line.get("schema") != SCHEMA or not isinstance(line.get("kind"), str):
            return None
        facts = {key: value for key, value in line.items() if key not in cls._own}
        return cls(line["kind"], str(line.get("who", "")), float(line.get("time", 0.0)), line.get("attempt"), facts)


def state_of(events: Iterable[Event]) -> State:
    """The state that the events lead to, in the order they were written."""
    state = State.CREATED
    for event in events:
        state = TRANSITIONS.get(event.kind, state)
    return state
