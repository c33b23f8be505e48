"""Simulates a schedule: when each pass of each stage begins and ends, and which micro-batches are in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from saman.pipeline.schedule import ORDERS, Action

# Seconds of an action on a stage.
Duration = Callable[[int, Action], float]


@dataclass(frozen=True)
class TimedAction:
    """An action on a stage, with the seconds of its begin and end since the start of the step."""

    stage: int
    action: Action
    begin: float
    end: float


@dataclass(frozen=True)
class Timeline:
    """The actions of a step, in the order of their ends."""

    stages: int
    actions: tuple[TimedAction, ...]

    @property
    def seconds(self) -> float:
        """The time of the step."""
        return max(action.end for action in self.actions)

    def busy_seconds(self, stage: int) -> float:
        """Return the seconds in which ``stage`` computes or receives."""
        return sum(action.end - action.begin for action in self.actions if action.stage == stage)

    def bubble_share(self, stage: int) -> float:
        """Return the share of the step in which ``stage`` waits for its neighbours."""
        return 1 - self.busy_seconds(stage) / self.seconds if self.seconds else 0.0


class Deadlock(RuntimeError):  # noqa: N818
    """Every stage waits for a message that no stage will send."""


def play(
    order: str,
    stages: int,
    micro_batches: int,
    seconds: Duration,
    delay: Duration = lambda stage, action: 0.0,
) -> Timeline:
    """Simulate a step.

    Args:
        order: A key of ``ORDERS``.
        stages: The number of stages.
        micro_batches: The number of micro-batches.
        seconds: The time of an action on a stage.
        delay: The time from the end of an action to the arrival of its message at the next stage.

    Raises:
        Deadlock: The stages wait for each other.
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
    return Timeline(stages, tuple(sorted(played, key=lambda timed: (timed.end, timed.begin))))


def _enables(stage: int, action: Action, stages: int) -> tuple[int, Action]:
    """Return the stage and action that wait for this action's message; the last stage turns forward into backward."""
    if action.kind == "backward":
        return stage - 1, action
    if stage == stages - 1:
        return stage, Action("backward", action.micro_batch)
    return stage + 1, action
