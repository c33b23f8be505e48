"""Counts what the events of a run say: attempts, checkpoints, failures. Events are taken one after the other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from saman.runs.elastic.world_events import WorldFormed
from saman.runs.events import TRANSITIONS, Event, EventKind, State
from saman.runs.ranks.rank_events import SlowRank
from saman.runs.ranks.training_events import CheckpointSave, EpochEnd, NonFinite
from saman.runs.records.run_events import AttemptStart


@dataclass
class EventTally:
    """The counts so far.

    Attributes:
        state: The state of the run.
        attempt: Number of the newest attempt; 0 before the first.
        ranks: World size of the newest attempt, in an elastic run of its newest world; ``None`` before the first.
        restarts: Attempts after the first.
        recoveries: Failures that an elastic run went on from in the same attempt: losses, exchanges that failed.
        lost_ranks: Ranks that an elastic run has lost and gone on without, in all attempts.
        checkpoint: Unix time and step of the newest checkpoint; ``None`` without.
        metrics: Of the newest epoch.
        slow: The ranks that are named as slow now.
        stalled: Whether the ranks make no progress now.
        rollbacks: How often the training went back to a checkpoint.
    """

    state: State = State.CREATED
    attempt: int = 0
    ranks: int | None = None
    restarts: int = 0
    recoveries: int = 0
    lost_ranks: int = 0
    checkpoint: tuple[float, int] | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    slow: dict[int, SlowRank] = field(default_factory=dict)
    stalled: bool = False
    rollbacks: int = 0
    _nonfinite: dict[int, int] = field(default_factory=dict)

    @property
    def nonfinite_steps(self) -> int:
        """Steps with a gradient that was not finite, in all attempts; an attempt records its growing count."""
        return sum(self._nonfinite.values())

    def take_all(self, events: Iterable[Event]) -> None:
        """Take events, oldest first."""
        for event in events:
            self.take(event)

    def take(self, event: Event) -> None:
        """Take the next event."""
        self.state = TRANSITIONS.get(event.kind, self.state)
        if event.kind == EventKind.ATTEMPT_STARTED:
            self._begin(event)
        elif event.kind in (EventKind.STALLED, EventKind.STALL_OVER):
            self.stalled = event.kind == EventKind.STALLED
        elif event.kind == EventKind.ROLLED_BACK:
            self.rollbacks += 1
        elif (saved := CheckpointSave.from_event(event)) is not None:
            self.checkpoint = event.time, saved.step
        elif (epoch := EpochEnd.from_event(event)) is not None:
            self.metrics = epoch.finite_metrics()
        elif (world := WorldFormed.from_event(event)) is not None:
            self.ranks = world.size
            self.recoveries += world.is_recovery
            self.lost_ranks += len(world.lost)
            self.slow = {rank: slow for rank, slow in self.slow.items() if rank not in world.lost}
        elif (bad := NonFinite.from_event(event)) is not None:
            self._nonfinite[self.attempt] = max(bad.steps, self._nonfinite.get(self.attempt, 0))
        elif (slow := SlowRank.from_event(event)) is not None:
            self.slow.pop(slow.rank, None)
            if not slow.ended:
                self.slow[slow.rank] = slow

    def _begin(self, event: Event) -> None:
        self.restarts += self.attempt > 0
        self.attempt = event.attempt or self.attempt + 1
        start = AttemptStart.from_event(event)
        self.ranks = None if start is None else start.ranks
        self.slow, self.stalled = {}, False
