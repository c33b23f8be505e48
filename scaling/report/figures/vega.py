"""Building blocks of Vega-Lite figures: series styles, axes and layers over rank counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from saman.scaling.statistics.intervals import LEVEL

Spec = dict[str, Any]  # a Vega-Lite specification or a part of it
Data = list[dict[str, Any]]  # the values of a figure, as JSON

# Okabe & Ito's colours, for any kind of colour vision, without black and yellow, which a dark or white page hides.
# Shapes and dashes distinguish series without colour.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#888888")
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")
DASHES: tuple[list[int], ...] = ([1, 0], [6, 2], [2, 2], [8, 2, 2, 2], [4, 4], [10, 3], [1, 3])
WIDTH, HEIGHT = 520, 300
LOG_MARK = " (log scale)"
_LEGEND_WIDTH = 540  # pixels
_LETTER, _SYMBOL = 6, 30  # pixels of a wide font's letter at size 10, and of a symbol with its gap
_MOST_ROWS = 20  # of a legend with a single column
_FEW = 8  # series up to which points at the same count are spread horizontally


@dataclass(frozen=True)
class Figure:
    """A figure: its file name, title, caption, and specification without a theme."""

    name: str
    title: str
    caption: str
    spec: Spec


@dataclass(frozen=True)
class SeriesStyle:
    """The series in order, which gives each its colour, shape and dash in every figure."""

    series: tuple[str, ...]

    def scale(self, values: Sequence[Any]) -> Spec:
        """A scale from series to ``values``; colours repeat after seven series."""
        cycle = len(values)
        shift = 1 if values is COLOURS else 0
        chosen = [values[(i if shift else i + i // len(COLOURS)) % cycle] for i in range(len(self.series))]
        return {"domain": list(self.series), "range": chosen}

    @property
    def legend(self) -> Spec:
        """The legend: above the figure for few series, below it in columns for many."""
        common = {"title": None, "symbolLimit": 100, "labelLimit": 260, "symbolOpacity": 1}
        longest = max((len(name) for name in self.series), default=0)
        if len(self.series) <= _FEW and longest <= 28:
            return {**common, "orient": "top", "columns": 4}
        fitting = _LEGEND_WIDTH // (longest * _LETTER + _SYMBOL)  # names of series often differ at their ends only
        columns = max(1 if len(self.series) <= _MOST_ROWS else 2, min(3, fitting))
        limit = _LEGEND_WIDTH // columns - _SYMBOL
        return {**common, "orient": "bottom", "columns": columns, "labelFontSize": 10, "labelLimit": limit}

    def channels(self, lines: bool = False) -> Spec:
        """Encodings of the series: colour, with shape for points or dash for lines."""
        name = {"field": "series", "type": "nominal"}
        colour = {**name, "scale": self.scale(COLOURS), "legend": self.legend}
        if lines:
            return {"color": colour, "strokeDash": {**name, "scale": self.scale(DASHES), "legend": self.legend}}
        return {"color": colour, "shape": {**name, "scale": self.scale(SHAPES), "legend": self.legend}}


def repeats_in_words(counts: Iterable[int]) -> str:
    """The number of runs for a figure's caption: ``n = 6``, or ``n = 5 to 6`` where points differ."""
    least, most = min(counts := list(counts)), max(counts)
    return f"n = {least}" if least == most else f"n = {least} to {most}"


def sample_in_words(points: Data, interval: str = "samples_per_second") -> str:
    """The number of runs behind a figure's point and the level of its interval, for the caption."""
    if not points:
        return ""
    runs = f" {repeats_in_words(int(point['repeats']) for point in points)} runs per point"
    known = sum(point.get(f"{interval}_low") is not None for point in points)
    if not known:
        return f"{runs}; no intervals (the table of points has the reason)."
    return f"{runs}; whiskers: {LEVEL:.0%} intervals{'' if known == len(points) else ' where repeats allow'}."


FADE: Spec = {"condition": {"param": "selected", "value": 1}, "value": 0.07}
SELECTION: Spec = {
    "name": "selected",
    "select": {"type": "point", "fields": ["series"], "toggle": "true"},
    "bind": "legend",
}


def over_ranks(
    data: Data, style: SeriesStyle, value: str, title: str, extra: Sequence[Spec] = (), percent: bool = False
) -> Spec:
    """Points with intervals, joined by lines, over rank counts.

    Args:
        data: Points with ``series``, ``ranks``, ``value``, ``value_low`` and ``value_high``.
        style: Of the series.
        value: Name of the field to draw.
        title: Of the y axis.
        extra: Layers below.
        percent: Whether values are shares.
    """
    data = spread_horizontally([point for point in data if point[value] is not None], style)
    x, y = rank_axis(data), value_axis(data, value, title, percent)
    tooltip = [
        {"field": name, "type": "nominal", "title": name.replace("_", " ")}
        for name in ("series", "ranks", "nodes", "repeats", "throughput", f"{value}_note", "runs")
    ]
    points = {
        "name": "points",
        "params": [SELECTION],
        "mark": {"type": "point", "filled": True, "size": 55 if len(style.series) <= _FEW else 30},
        "encoding": {"x": x, "y": y, **style.channels(), "opacity": FADE, "tooltip": tooltip},
    }
    lines = {
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
    return {"data": {"values": data}, "width": WIDTH, "height": HEIGHT, "layer": [*extra, lines, whiskers, points]}


def spread_horizontally(data: Data, style: SeriesStyle) -> Data:
    """Data with a field ``x``: points at the same count lie side by side, so that intervals stay visible."""
    few = len(style.series) <= _FEW
    middle = (len(style.series) - 1) / 2
    place = {name: (index - middle if few else 0.0) for index, name in enumerate(style.series)}
    return [{**point, "x": point["ranks"] * (1 + 0.012 * place.get(point["series"], 0.0))} for point in data]


def spans_widely(data: Data) -> bool:
    """Whether rank counts span a factor of eight; axes are then logarithmic."""
    counts = [point["ranks"] for point in data] or [1]
    return bool(max(counts) >= 8 * min(counts))


def rank_axis(data: Data, field: str = "x") -> Spec:
    """The x axis: rank counts, logarithmic where they span a factor of eight."""
    counts = sorted({point["ranks"] for point in data}) or [1]
    wide = spans_widely(data)
    ticks = counts if len(counts) <= 12 else counts[:: -(-len(counts) // 12)]
    margin = 0.1 * max(1, counts[-1] - counts[0])
    domain = [counts[0] * 0.9, counts[-1] * 1.1] if wide else [counts[0] - margin, counts[-1] + margin]
    scale: Spec = {"type": "log", "base": 2} if wide else {"type": "linear", "zero": False}
    axis = {"values": ticks, "format": "d", "grid": False, "labelOverlap": "greedy"}
    scale |= {"domain": domain, "nice": False}
    title = "ranks" + (LOG_MARK if wide else "")
    return {"field": field, "type": "quantitative", "title": title, "scale": scale, "axis": axis}


def value_axis(data: Data, field: str, title: str, percent: bool = False) -> Spec:
    """Make the y axis: logarithmic like the ranks, which makes the ideal a straight line; linear for shares.

    Args:
        data: The values of the figure; they set the range.
        field: The field on the axis.
        title: The title of the axis.
        percent: Whether the values are shares, shown as percentages.
    """
    values = [point[field] for point in data if point.get(field)]
    axis: Spec = {"format": ".0%" if percent else "~s", "tickCount": 6}
    scale: Spec = {"type": "linear", "zero": True}
    if not percent and values and min(values) > 0 and spans_widely(data):
        scale = {"type": "log", "domain": [min(values) * 0.8, max(values) * 1.3], "nice": False}
        axis["labelOverlap"] = "greedy"
        title += LOG_MARK
    return {"field": field, "type": "quantitative", "title": title, "scale": scale, "axis": axis}


def line_layer(data: Data, field: str, x: Spec, y: Spec, style: SeriesStyle | None, dash: list[int]) -> Spec:
    """Make a layer with a thin line over ranks.

    Args:
        data: The points, with ``ranks`` and ``series``.
        field: The field of the points to draw.
        x: The x axis.
        y: The y axis.
        style: Colours by series (a fitted law); ``None`` for grey (the ideal).
        dash: Lengths of dashes and gaps, in pixels.
    """
    colour: Spec = {"value": "#888888"} if style is None else style.channels()["color"]
    return {
        "data": {"values": data},
        "mark": {"type": "line", "strokeDash": dash, "strokeWidth": 1.2, "clip": True},
        "encoding": {
            "x": {**x, "field": "ranks"},
            "y": {**y, "field": field},
            "color": colour,
            "detail": {"field": "series", "type": "nominal"},
            **({"opacity": FADE} if style else {}),
        },
    }


def band_layer(data: Data, x: Spec, y: Spec, style: SeriesStyle) -> Spec:
    """Make a layer with prediction intervals as bands over ranks.

    Args:
        data: The points, with ``ranks``, ``low``, ``high`` and ``series``.
        x: The x axis.
        y: The y axis.
        style: Colours by series.
    """
    return {
        "data": {"values": data},
        "mark": {"type": "area", "opacity": 0.16, "clip": True},
        "encoding": {
            "x": {**x, "field": "ranks"},
            "y": {**y, "field": "low"},
            "y2": {"field": "high"},
            "color": style.channels()["color"],
        },
    }
