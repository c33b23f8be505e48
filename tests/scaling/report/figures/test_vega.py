"""Figures tell series apart without colour alone, and draw the ideal as a straight line."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from saman.scaling.report.figures.drawing import svg_of
from saman.scaling.report.figures.narrow import narrow
from saman.scaling.report.figures.vega import (
    COLOURS,
    DASHES,
    SHAPES,
    SeriesStyle,
    over_ranks,
    rank_axis,
    spread_horizontally,
    value_axis,
)


def points(counts: list[int], series: str = "a", **values: float) -> list[dict[str, object]]:
    """A point at each count."""
    return [{"series": series, "ranks": count, "value": 100.0 * count, **values} for count in counts]


@pytest.mark.parametrize("number", [1, 2, 7, 8, 14, 30])
def test_series_differ_in_colour_and_shape_and_in_colour_and_dash(number: int) -> None:
    style = SeriesStyle(tuple(f"series {index}" for index in range(number)))
    for second in (SHAPES, DASHES):
        looks = list(zip(style.scale(COLOURS)["range"], map(str, style.scale(second)["range"]), strict=True))
        assert len(set(looks)) == number
    assert style.scale(COLOURS)["domain"] == list(style.series)


def test_axes_are_logarithmic_together_so_that_the_ideal_is_straight() -> None:
    wide, narrow = points([1, 2, 4, 8]), points([1, 2, 4])
    assert [rank_axis(wide)["scale"]["type"], value_axis(wide, "value", "")["scale"]["type"]] == ["log", "log"]
    assert [rank_axis(narrow)["scale"]["type"], value_axis(narrow, "value", "")["scale"]["type"]] == ["linear"] * 2


def test_shares_start_at_zero_however_many_ranks() -> None:
    scale = value_axis(points([1, 64]), "value", "efficiency", percent=True)["scale"]
    assert scale == {"type": "linear", "zero": True}


def test_every_measured_count_is_a_tick_until_there_are_too_many() -> None:
    assert rank_axis(points([1, 2, 6]))["axis"]["values"] == [1, 2, 6]
    assert len(rank_axis(points(list(range(1, 100))))["axis"]["values"]) <= 12


def test_points_at_the_same_count_lie_side_by_side_in_the_order_of_the_series() -> None:
    style = SeriesStyle(("a", "b", "c"))
    places = [spread_horizontally(points([4], name), style)[0]["x"] for name in style.series]
    assert all(left < right for left, right in pairwise(places)) and places[1] == 4
    assert places[-1] - places[0] < 0.2


def test_what_was_not_measured_is_not_drawn() -> None:
    measured = points([1, 2], value_low=90.0, value_high=110.0)
    missing = [{**points([4])[0], "value": None}]
    spec = over_ranks([*measured, *missing], SeriesStyle(("a",)), "value", "samples/s")
    assert [point["ranks"] for point in spec["data"]["values"]] == [1, 2]


@pytest.mark.parametrize("words", ["pipeline", "pipeline micro batches 4", "pipeline global batch 64 micro batches 4"])
def test_a_legend_shows_names_to_their_ends_within_the_figure(words: str) -> None:
    """Names of series often differ at their ends only."""
    names = [f"{words} stages {stages}" for stages in (1, 2, 4, 8)]
    data = [point for name in names for point in points([1, 2, 4], name)]
    drawn = svg_of(over_ranks(data, SeriesStyle(tuple(names)), "value", "samples per second"))
    assert all(f">{name}<" in drawn for name in names)
    opening = re.search(r'<svg [^>]*width="([\d.]+)"', drawn)
    assert opening is not None
    assert float(opening[1]) <= 640


def test_row_labels_still_differ_where_there_is_little_room() -> None:
    names = [f"pipeline micro batches {count} stages {stages}" for count in (2, 4) for stages in (1, 2)]
    y = {"field": "series", "type": "nominal", "axis": {"labelLimit": 220}}
    layer = {"data": {"values": [{"series": name} for name in names]}, "mark": "tick", "encoding": {"y": y}}
    found = narrow({"width": 500, "layer": [layer, layer]})
    for part in found["layer"]:
        rule = part["encoding"]["y"]["axis"]["labelExpr"]
        cut = int(rule.rpartition(", ")[2].rstrip(")"))
        assert len({name[cut:][:15] for name in names}) == len(names)
    assert "labelExpr" not in y["axis"]  # the figure for wide pages keeps its labels
    single = narrow({"data": {"values": [{"series": names[0]}]}, "mark": "tick", "encoding": {"y": y}})
    assert "labelExpr" not in single["encoding"]["y"]["axis"]
