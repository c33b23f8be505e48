"""The interval between checkpoints is near the best, by a search that shares no formula with it."""

from __future__ import annotations

import math
import random

import pytest

from saman.runs.checkpoints.interval import best_interval, checkpoint_cost, count_failures, estimate_mtbf
from saman.runs.events import Event


def waste(interval: float, cost: float, mtbf: float, rng: random.Random) -> float:
    """Wall seconds per second of kept work, by playing failures."""
    wall = kept = 0.0
    until = rng.expovariate(1 / mtbf)
    while kept < 300 * mtbf:
        if until >= interval + cost:
            wall, kept, until = wall + interval + cost, kept + interval, until - interval - cost
        else:
            wall, until = wall + until, rng.expovariate(1 / mtbf)
    return wall / kept


@pytest.mark.parametrize(("cost", "mtbf"), [(1.0, 3600.0), (5.0, 600.0), (0.03, 60.0)])
def test_no_other_interval_loses_much_less(cost: float, mtbf: float) -> None:
    best = best_interval(cost, mtbf)
    played = {factor: waste(best * factor, cost, mtbf, random.Random(7)) for factor in (0.25, 0.5, 1.0, 2.0, 4.0)}
    assert min(played, key=played.__getitem__) == 1.0 or played[1.0] <= 1.01 * min(played.values())
    assert played[1.0] < played[0.25] and played[1.0] < played[4.0]


def test_a_checkpoint_never_begins_before_the_one_before_is_on_disk() -> None:
    assert best_interval(0.01, 60.0, write_seconds=30.0) == 30.0
    assert best_interval(100.0, 10.0) == 10.0


def test_writing_in_the_background_costs_a_share() -> None:
    assert checkpoint_cost(0.0, 10.0) > checkpoint_cost(0.0, 1.0) > 0
    assert math.isclose(checkpoint_cost(2.0, 0.0), 2.0)


def started(time: float) -> Event:
    return Event("attempt_started", "supervisor", time)


def test_failures_that_happen_correct_the_expected_time_between_them() -> None:
    day = 86400.0
    assert estimate_mtbf([], day) == day
    events = [started(0.0)]
    for minute in range(1, 10):
        events += [Event("restarting", "supervisor", 60.0 * minute), started(60.0 * minute)]
    assert estimate_mtbf(events, day) == pytest.approx((day + 540.0) / 10)
    assert estimate_mtbf(events, 60.0, now=600.0) == pytest.approx(66.0)


def test_a_lost_supervisor_is_a_failure_and_a_stop_on_request_is_none() -> None:
    assert count_failures([started(0.0), started(1.0), Event("failed", "s", 2.0), started(3.0)]) == 2
    assert count_failures([started(0.0), Event("preempted", "s", 1.0), started(2.0), Event("completed", "s", 3.0)]) == 0
