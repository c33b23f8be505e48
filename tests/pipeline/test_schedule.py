"""Promises of the schedules: complete, within their memory, and never waiting for themselves."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saman.pipeline import schedule
from saman.pipeline.schedule import ORDERS, Action, bubble_bound
from saman.pipeline.simulate import Timeline, play

sizes = st.tuples(st.sampled_from(sorted(ORDERS)), st.integers(1, 8), st.integers(1, 20))


def even(stage: int, action: Action) -> float:
    return 1.0


def most_alive(timeline: Timeline, stage: int) -> int:
    """The largest number of micro-batches that are between their passes on ``stage`` at the same time."""
    alive = most = 0
    for timed in timeline.actions:
        if timed.stage == stage:
            alive += 1 if timed.action.kind == "forward" else -1
            most = max(most, alive)
    return most


@given(sizes)
def test_every_micro_batch_passes_every_stage_once_forward_and_then_once_backward(size: tuple[str, int, int]) -> None:
    order, stages, micro_batches = size
    for stage in range(stages):
        actions = list(ORDERS[order](stage, stages, micro_batches))
        assert len(actions) == len(set(actions)) == 2 * micro_batches
        for micro_batch in range(micro_batches):
            assert actions.index(Action("forward", micro_batch)) < actions.index(Action("backward", micro_batch))


@given(st.integers(1, 8), st.integers(1, 20), st.integers(0, 2**32))
def test_1f1b_holds_at_most_one_micro_batch_per_stage_still_to_come(stages: int, micro_batches: int, seed: int) -> None:
    draw = random.Random(seed)
    timeline = play("1f1b", stages, micro_batches, lambda stage, action: draw.expovariate(1))
    for stage in range(stages):
        assert most_alive(timeline, stage) == min(stages - stage, micro_batches)


@settings(max_examples=200)
@given(sizes, st.integers(0, 2**32))
def test_no_order_of_arrival_makes_the_stages_wait_for_each_other(size: tuple[str, int, int], seed: int) -> None:
    draw = random.Random(seed)

    def anything(stage: int, action: Action) -> float:
        return draw.choice([0.0, 1.0, 100.0])

    order, stages, micro_batches = size
    timeline = play(order, stages, micro_batches, anything, anything)
    assert len(timeline.actions) == 2 * stages * micro_batches


@given(sizes)
def test_an_even_step_attains_the_bubble_bound(size: tuple[str, int, int]) -> None:
    order, stages, micro_batches = size
    timeline = play(order, stages, micro_batches, even)
    assert timeline.seconds == 2 * (micro_batches + stages - 1)
    assert 2 * micro_batches * stages / timeline.seconds == pytest.approx(bubble_bound(micro_batches, stages))


def drawn(timeline: Timeline, stage: int) -> str:
    """The row of the picture: digits for forward passes, letters for backward passes."""
    row = ["."] * int(timeline.seconds)
    for timed in timeline.actions:
        if timed.stage == stage:
            letters = "0123456" if timed.action.kind == "forward" else "abcdefg"
            row[int(timed.begin)] = letters[timed.action.micro_batch]
    return " ".join(row)


@pytest.mark.parametrize(("order", "stages", "micro_batches"), [("1f1b", 3, 5), ("gpipe", 3, 5)])
def test_the_picture_shows_what_the_code_does(order: str, stages: int, micro_batches: int) -> None:
    timeline = play(order, stages, micro_batches, even)
    for stage in range(stages):
        print(drawn(timeline, stage))
    for stage in range(stages):
        assert f"stage {stage}   {drawn(timeline, stage)}   " in (schedule.__doc__ or "")
