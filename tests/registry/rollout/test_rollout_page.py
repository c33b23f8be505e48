"""The figures of a rollout's page: round values beside the axis, and a band from the first look on."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saman.registry.rollout.page import LEFT, WIDTH, MetricSequence, SequencePoint, draw


def numbers_beside_the_axis(drawing: str) -> list[float]:
    return [float(text) for text in re.findall(r'text-anchor="end">(-?[\d.e+-]+)</text>', drawing)]


@given(st.floats(-1.0, 1.0), st.floats(1e-6, 1.0), st.floats(0.01, 2.0))
def test_the_axis_holds_what_is_drawn_between_few_round_values(middle: float, half: float, margin: float) -> None:
    points = tuple(SequencePoint(count, middle, middle - half, middle + half) for count in (100, 200))
    values = numbers_beside_the_axis(draw(MetricSequence("loss", margin, points)))
    assert 2 <= len(values) <= 6
    assert values[0] <= min(middle - half, margin) and max(middle + half, margin) <= values[-1]
    steps = {f"{after - before:.0e}"[0] for before, after in pairwise(values)}
    assert steps <= {"1", "2", "5"} and len(steps) == 1


def test_a_single_look_is_a_band_over_the_whole_width() -> None:
    drawing = draw(MetricSequence("loss", 0.05, (SequencePoint(1600, 0.03, 0.01, 0.06),)))
    line = re.search(r'class="estimate" points="([^"]+)"', drawing)
    assert line is not None
    assert [float(pair.split(",")[0]) for pair in line[1].split()] == pytest.approx([LEFT, WIDTH - 10])
