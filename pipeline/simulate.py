"""Plays a schedule without a machine: when each pass of each stage begins and ends, and what is alive meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from saman.pipeline.schedule import ORDERS, Action

# seconds that an action takes on a stage, and seconds that it spends on receiving what it needs before it computes
Duration = Callable[[int, Action], float]


@dataclass(frozen=True)
class TimedAction:
    """One action on one stage; ``begin`` is when its input was there and the stage was free."""

    stage: int
    action: Action
    begin: float
    end: float


@dataclass(frozen=True)
class Timeline:
    """Every action of a step in the order of its end."""

    stages: int
    played: tuple[TimedAction, ...]

    @property
    def seconds(self) -> float:
        """From the first action to the last."""
        return max(one.end for one in self.played)

    def busy_seconds(self, stage: int) -> float:
        """Computing and receiving."""
        return sum(one.end - one.begin for one in self.played if one.stage == stage)

    def bubble_share(self, stage: int) -> float:
        """The share of the step in which ``stage`` waits for its neighbours."""
        return 1 - self.busy_seconds(stage) / self.seconds if self.seconds else 0.0

    def most_alive(self, stage: int) -> int:
        """The largest number of micro-batches between forward and backward on ``stage`` at once."""
        alive = most = 0
        for one in self.played:
            if one.stage == stage:
                alive += 1 if one.action.kind == "forward" else -1
                most = max(most, alive)
        return most


class Deadlock(RuntimeError):  # noqa: N818
    """No stage can go on: each waits for a message that nobody will send."""


def play(
    order: str,
    stages: int,
    micro_batches: int,
    seconds: Duration,
    delay: Duration = lambda stage, action: 0.0,
) -> Timeline:
    """The step that ``order`` makes. A message leaves when its action ends and arrives ``delay`` later.

    Raises ``Deadlock`` where the order waits for itself.
    """
    remaining = [list(ORDERS[order](stage, stages, micro_batches)) for stage in range(stages)]
    arrivals: dict[tuple[int, Action], float] = {(0, Action("forward", m)): 0.0 for m in range(micro_batches)}
    free = [0.0] * stages
    played: list[TimedAction] = []
    while any(remaining):
        ready = [s for s in range(stages) if remaining[s] and (s, remaining[s][0]) in arrivals]
        if not ready:
            waiting = {s: remaining[s][0] for s in range(stages) if remaining[s]}
            raise Deadlock(f"every stage waits: {waiting}")
        for stage in ready:
            action = remaining[stage].pop(0)
            begin = max(free[stage], arrivals[stage, action])
            end = free[stage] = begin + seconds(stage, action)
            played.append(TimedAction(stage, action, begin, end))
            target, then = _enables(stage, action, stages)
            if 0 <= target < stages:
                arrivals[target, then] = end + delay(stage, action)
    return Timeline(stages, tuple(sorted(played, key=lambda one: (one.end, one.begin))))


def _enables(stage: int, action: Action, stages: int) -> tuple[int, Action]:
    """The stage and action that wait for this action's message; the last stage turns forward into backward."""
    if action.kind == "backward":
        return stage - 1, action
    if stage == stages - 1:
        return stage, Action("backward", action.micro_batch)
    return stage + 1, action
