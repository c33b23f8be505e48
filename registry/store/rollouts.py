"""A rollout as the audit log records it: a candidate that takes part of the traffic until it is judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from typing import Any

from saman.registry.store.audit_entry import Entry


class RolloutEvent(str, Enum):
    """What happens to a rollout."""

    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    END = "end"


class RolloutOutcome(str, Enum):
    """How a rollout ended."""

    PROMOTED = "promoted"
    ROLLED_BACK = "rolled back"
    EXPIRED = "expired"  # its budget was spent without a decision
    ABORTED = "aborted"


class RolloutStrategy(str, Enum):
    """How requests are distributed.

    ``canary`` and ``ab`` give the candidate a part of the requests. ``shadow`` lets it compute a part of them without
    anybody waiting for its answers. ``blue-green`` gives it all, and stable computes a part of them unheard.
    """

    CANARY = "canary"
    AB = "ab"
    SHADOW = "shadow"
    BLUE_GREEN = "blue-green"


MOST_PER_BLOCK = 20


@dataclass(frozen=True)
class RolloutStart:
    """How a rollout distributes requests.

    Attributes:
        strategy: The strategy.
        stable: The version that the candidate is compared with.
        traffic: The part of the requests, in (0, 1].
        key: The header (or input) that names the user; empty: each request is assigned by itself.
        salt: Key of the hash that assigns users, new for each rollout.
    """

    strategy: RolloutStrategy
    stable: int
    traffic: float
    key: str
    salt: str

    def to_json(self) -> dict[str, Any]:
        """The start as plain values."""
        return {**asdict(self), "strategy": self.strategy.value}

    @property
    def per_block(self) -> int:
        """Answers of stable that are compared with each answer of the candidate, by the store's record of the start."""
        if self.strategy in (RolloutStrategy.SHADOW, RolloutStrategy.BLUE_GREEN):
            return 1
        return min(MOST_PER_BLOCK, max(1, round((1 - self.traffic) / self.traffic)))


@dataclass(frozen=True)
class RolloutState:
    """The log's record of a rollout; times are in Unix seconds."""

    id: str
    version: int
    start: RolloutStart
    started_at: float
    started_by: str
    is_paused: bool = False
    ended_at: float | None = None
    outcome: RolloutOutcome | None = None
    why: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_active(self) -> bool:
        """Whether it has not ended."""
        return self.outcome is None

    def to_json(self) -> dict[str, Any]:
        """The record as plain values, without the salt."""
        start = {name: value for name, value in self.start.to_json().items() if name != "salt"}
        times = {"started_at": self.started_at, "started_by": self.started_by, "ended_at": self.ended_at}
        outcome = self.outcome.value if self.outcome else None
        return {"id": self.id, "version": self.version, **start, **times, "paused": self.is_paused, "outcome": outcome,
                "why": self.why, "evidence": dict(self.evidence)}  # fmt: skip


def after_entry(earlier: RolloutState | None, entry: Entry) -> RolloutState | None:
    """The newest rollout of a model after an entry; an unknown event, or one without its start, changes nothing."""
    event = entry.text("event")
    if event == RolloutEvent.START.value:
        start = _start_of(entry)
        return earlier if start is None else _begun(entry, start)
    if earlier is None or not earlier.is_active or entry.text("rollout") != earlier.id:
        return earlier
    if event in (RolloutEvent.PAUSE.value, RolloutEvent.RESUME.value):
        return replace(earlier, is_paused=event == RolloutEvent.PAUSE.value)
    known = entry.text("outcome") in {outcome.value for outcome in RolloutOutcome}
    if event != RolloutEvent.END.value or not known:
        return earlier
    evidence = entry.facts.get("evidence")
    return replace(
        earlier,
        ended_at=entry.time,
        outcome=RolloutOutcome(entry.text("outcome")),
        why=entry.why,
        evidence=evidence if isinstance(evidence, dict) else {},
    )


def _begun(entry: Entry, start: RolloutStart) -> RolloutState:
    return RolloutState(entry.text("rollout"), entry.version, start, entry.time, entry.who)


def _start_of(entry: Entry) -> RolloutStart | None:
    try:
        strategy = RolloutStrategy(entry.text("strategy"))
        stable, traffic = int(entry.facts["stable"]), float(entry.facts["traffic"])
    except (ValueError, KeyError, TypeError):
        return None
    return RolloutStart(strategy, stable, traffic, entry.text("key"), entry.text("salt"))
