"""Checkpoints fall due at the same steps on all ranks; ``every: auto`` finds the interval from its own costs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from saman.configs.schemas.training import CheckpointPolicy
from saman.trainers.loop import checkpoint_schedule
from saman.trainers.loop.checkpoint_schedule import CheckpointSchedule


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


class Alone:
    """A strategy of one rank, as far as a schedule sees it."""

    chief = True

    def total(self, values: np.ndarray) -> np.ndarray:
        return values


class Following(Alone):
    """A rank that hears the chief's last word."""

    chief = False

    def __init__(self) -> None:
        self.heard: list[float] = []

    def total(self, values: np.ndarray) -> np.ndarray:
        assert not values.any()
        return np.array([self.heard.pop(0)])


AUTO = CheckpointPolicy.model_validate({"every": "auto"})


def play(schedule: CheckpointSchedule, clock: Clock, seconds: float, step_seconds: float, cost: Any) -> list[int]:
    """The steps of the checkpoints within so many seconds of training."""
    schedule.begin(0)
    saved, step = [], 0
    while clock.now < seconds:
        step, clock.now = step + 1, clock.now + step_seconds
        if schedule.is_due(step):
            saved.append(step)
            schedule.note_saved(step)
            if cost is not None:
                schedule.measure(*cost)
    return saved


def test_fixed_intervals_count_from_the_first_step_of_the_run() -> None:
    schedule = CheckpointSchedule(CheckpointPolicy(every_steps=10), Alone(), 60.0)  # type: ignore[arg-type]
    schedule.begin(7)
    assert [step for step in range(1, 41) if schedule.is_due(step)] == [10, 20, 30, 40]
    assert schedule.steps_left(7) == 3
    never = CheckpointSchedule(CheckpointPolicy(), Alone(), 60.0)  # type: ignore[arg-type]
    assert never.steps_left(5) is None and not never.is_due(5)


@pytest.mark.parametrize(("mtbf", "low", "high"), [(60.0, 2.5, 5.5), (86400.0, 100.0, 180.0)])
def test_automatic_intervals_follow_the_cost_and_the_time_between_failures(
    mtbf: float, low: float, high: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(checkpoint_schedule, "time", clock)
    schedule = CheckpointSchedule(AUTO, Alone(), mtbf)  # type: ignore[arg-type]
    saved = play(schedule, clock, 40 * mtbf**0.5 + 200, 0.1, (0.1, 0.2))
    apart = np.diff(saved)[-3:] * 0.1
    assert low <= apart.mean() <= high, apart


def test_without_a_measurement_the_distance_doubles() -> None:
    schedule = CheckpointSchedule(AUTO, Alone(), 60.0)  # type: ignore[arg-type]
    assert play(schedule, Clock(), 0.0, 1.0, None) == []
    schedule.begin(0)
    saved = []
    for step in range(1, 200):
        if schedule.is_due(step):
            saved.append(step)
            schedule.note_saved(step)
    assert list(np.diff([0, *saved])) == [4, 8, 16, 32, 64]


def test_every_rank_takes_the_chiefs_word() -> None:
    follower = Following()
    schedule = CheckpointSchedule(AUTO, follower, 60.0)  # type: ignore[arg-type]
    schedule.begin(100)
    follower.heard = [17.0]
    assert schedule.is_due(104) and schedule.steps_left(103) == 1
    schedule.note_saved(104)
    assert schedule.steps_left(104) == 17 and not schedule.is_due(120) and schedule.is_due(121)


def test_automatic_and_fixed_intervals_exclude_each_other() -> None:
    assert AUTO.every_epochs is None
    with pytest.raises(ValueError, match="every: auto"):
        CheckpointPolicy.model_validate({"every": "auto", "every_steps": 10})
    assert CheckpointPolicy.model_validate(AUTO.model_dump()) == AUTO
