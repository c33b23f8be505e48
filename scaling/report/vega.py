"""The figures of a report as Vega-Lite specifications: made from tables, for the page and for papers alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from saman.scaling.statistics.estimates import Rows

Spec = dict[str, Any]

# Okabe & Ito's colours, for any kind of colour vision, without black and yellow, which a dark or a white page hides;
# shapes and dashes tell series apart without colour.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#888888")
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")
DASHES: tuple[list[int], ...] = ([1, 0], [6, 2], [2, 2], [8, 2, 2, 2], [4, 4], [10, 3], [1, 3])
WIDTH, HEIGHT = 520, 300
_FEW = 8  # series up to which points are set apart at the same count


@dataclass(frozen=True)
class Figure:
    """A figure by its file name: what it shows, how to read it, and its specification without a theme."""

    name: str
    title: str
    caption: str
    spec: Spec


@dataclass(frozen=True)
class Style:
    """Which series there are, in their order, and so which colour, shape and dash each has in every figure."""

    series: tuple[str, ...]

    def scale(self, values: Sequence[Any]) -> Spec:
        """A scale that gives every series its own of ``values``; colours come round after seven series."""
        cycle = len(values)
        shift = 1 if values is COLOURS else 0
        chosen = [values[(i if shift else i + i // len(COLOURS)) % cycle] for i in range(len(self.series))]
        return {"domain": list(self.series), "range": chosen}

    @property
    def legend(self) -> Spec:
        """Beside the figure for few series, below it in columns for many."""
        common = {"title": None, "symbolLimit": 100, "labelLimit": 260, "symbolOpacity": 1}
        if len(self.series) <= _FEW and max((len(name) for name in self.series), default=0) <= 28:
            return {**common, "orient": "top", "columns": 4}
        return {**common, "orient": "bottom", "columns": 3, "labelFontSize": 10, "labelLimit": 170}

    def channels(self, lines: bool = False) -> Spec:
        """Encodings of the series: colour, and shape for points or dash for lines."""
        name = {"field": "series", "type": "nominal"}
        colour = {**name, "scale": self.scale(COLOURS), "legend": self.legend}
        if lines:
            return {"color": colour, "strokeDash": {**name, "scale": self.scale(DASHES), "legend": self.legend}}
        return {"color": colour, "shape": {**name, "scale": self.scale(SHAPES), "legend": self.legend}}


FADE: Spec = {"condition": {"param": "shown", "value": 1}, "value": 0.07}
CHOSEN: Spec = {
    "name": "shown",
    "select": {"type": "point", "fields": ["series"], "toggle": "true"},
    "bind": "legend",
}


def over_ranks(
    rows: Rows, style: Style, value: str, title: str, extra: Sequence[Spec] = (), percent: bool = False
) -> Spec:
    """Points with intervals joined by lines over rank counts. ``extra`` layers lie below."""
    rows = set_apart([row for row in rows if row[value] is not None], style)
    x, y = rank_axis(rows), value_axis(rows, value, title, percent)
    told = [
        {"field": name, "type": "nominal", "title": name.replace("_", " ")}
        for name in ("series", "ranks", "nodes", "repeats", "told", f"{value}_note", "runs")
    ]
    points = {
        "name": "points",
        "params": [CHOSEN],
        "mark": {"type": "point", "filled": True, "size": 55 if len(style.series) <= _FEW else 30},
        "encoding": {"x": x, "y": y, **style.channels(), "opacity": FADE, "tooltip": told},
    }
    joined = {
        "mark": {"type": "line", "strokeWidth": 1.6 if len(style.series) <= _FEW else 1.0},
        "encoding": {"x": x, "y": y, **style.channels(lines=True), "opacity": FADE},
    }
    whiskers = {
        "transform": [{"filter": f"isValid(datum.{value}_low)"}],
        "mark": {"type": "rule", "strokeWidth": 1.6},
        "encoding": {
            "x": x,
            "y": {**y, "field": f"{value}_low"},
            "y2": {"field": f"{value}_high"},
            "color": style.channels()["color"],
            "opacity": FADE,
        },
    }
    return {"data": {"values": rows}, "width": WIDTH, "height": HEIGHT, "layer": [*extra, joined, whiskers, points]}


def set_apart(rows: Rows, style: Style) -> Rows:
    """Rows with a place on the x axis: a little beside each other at the same count, so that intervals do not hide."""
    few = len(style.series) <= _FEW
    middle = (len(style.series) - 1) / 2
    place = {name: (index - middle if few else 0.0) for index, name in enumerate(style.series)}
    return [{**row, "x": row["ranks"] * (1 + 0.012 * place.get(row["series"], 0.0))} for row in rows]


def spans_widely(rows: Rows) -> bool:
    """Whether rank counts span a factor of eight, so that axes are logarithmic."""
    counts = [row["ranks"] for row in rows] or [1]
    return bool(max(counts) >= 8 * min(counts))


def rank_axis(rows: Rows, field: str = "x") -> Spec:
    """Rank counts, logarithmic where they span a factor of eight."""
    counts = sorted({row["ranks"] for row in rows}) or [1]
    wide = spans_widely(rows)
    shown = counts if len(counts) <= 12 else counts[:: -(-len(counts) // 12)]
    margin = 0.1 * max(1, counts[-1] - counts[0])
    domain = [counts[0] * 0.9, counts[-1] * 1.1] if wide else [counts[0] - margin, counts[-1] + margin]
    scale: Spec = {"type": "log", "base": 2} if wide else {"type": "linear", "zero": False}
    axis = {"values": shown, "format": "d", "grid": False, "labelOverlap": "greedy"}
    scale |= {"domain": domain, "nice": False}
    return {"field": field, "type": "quantitative", "title": "ranks", "scale": scale, "axis": axis}


def value_axis(rows: Rows, field: str, title: str, percent: bool = False) -> Spec:
    """Values; logarithmic like the ranks, so that the ideal is a straight line, except for shares."""
    values = [row[field] for row in rows if row.get(field)]
    axis: Spec = {"format": ".0%" if percent else "~s", "tickCount": 6}
    scale: Spec = {"type": "linear", "zero": True}
    if not percent and values and min(values) > 0 and spans_widely(rows):
        scale = {"type": "log", "domain": [min(values) * 0.8, max(values) * 1.3], "nice": False}
        axis["labelOverlap"] = "greedy"
    return {"field": field, "type": "quantitative", "title": title, "scale": scale, "axis": axis}


def line_layer(rows: Rows, field: str, x: Spec, y: Spec, style: Style | None, dash: list[int]) -> Spec:
    """A thin line over ranks from its own rows: an ideal, or a fitted law."""
    colour: Spec = {"value": "#888888"} if style is None else style.channels()["color"]
    return {
        "data": {"values": rows},
        "mark": {"type": "line", "strokeDash": dash, "strokeWidth": 1.2, "clip": True},
        "encoding": {
            "x": {**x, "field": "ranks"},
            "y": {**y, "field": field},
            "color": colour,
            "detail": {"field": "series", "type": "nominal"},
            **({"opacity": FADE} if style else {}),
        },
    }


def band_layer(rows: Rows, x: Spec, y: Spec, style: Style) -> Spec:
    """A prediction's interval as a band over ranks."""
    return {
        "data": {"values": rows},
        "mark": {"type": "area", "opacity": 0.16, "clip": True},
        "encoding": {
            "x": {**x, "field": "ranks"},
            "y": {**y, "field": "low"},
            "y2": {"field": "high"},
            "color": style.channels()["color"],
        },
    }
