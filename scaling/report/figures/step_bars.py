"""Stacked bars of what a step is made of: a bar per place, a colour per part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from saman.scaling.report.figures.vega import WIDTH, Data, Figure, SeriesStyle, Spec, repeats_in_words

_MOST_BARS = 40
_COLOURS = {
    "compute": "#0072B2",
    "compute and exchange": "#56B4E9",
    "exposed exchange": "#E69F00",
    "input wait": "#CC79A7",
    "between stages": "#888888",
}


def step_breakdown(points: Data, style: SeriesStyle) -> Figure:
    """The parts of a step; of many points only those at the largest count of each series."""
    if len(points) > _MOST_BARS:
        largest = {name: max(p["ranks"] for p in points if p["series"] == name) for name in style.series}
        points = [point for point in points if point["ranks"] == largest[point["series"]]]
    parts, unmeasured = [], False
    for point in points:
        head = {"place": f"{point['series']} × {point['ranks']}", "series": point["series"], "ranks": point["ranks"]}
        measured = point["exchange_seconds"] is not None or point["ranks"] == 1
        unmeasured = unmeasured or not measured
        seconds = {
            "compute" if measured else "compute and exchange": point["compute_seconds"],
            "exposed exchange": point["exchange_seconds"] or 0.0,
            "input wait": point["input_wait_seconds"],
            "between stages": point["between_stages_seconds"],
        }
        parts += [
            {**head, "part": part, "order": order, "ms": 1e3 * value}
            for order, (part, value) in enumerate(seconds.items())
        ]
    lacks = " Where exposed exchange was not measured, compute includes it." if unmeasured else ""
    sample = repeats_in_words(int(point["repeats"]) for point in points)
    caption = (
        f"Medians over {sample} runs per bar, no intervals. Exchange that overlaps with backward is not shown.{lacks}"
    )
    return Figure("step", "Breakdown of a step", caption, step_bars(parts, _COLOURS))


def step_bars(parts: Data, colours: Mapping[str, str], tooltip: Sequence[str] = ()) -> Spec:
    """Stacked bars of milliseconds.

    Args:
        parts: Entries with ``place``, ``part`` (a key of ``colours``), ``order`` and ``ms``; those of 0 ms are left
            out.
        colours: Colour of each part.
        tooltip: More fields of the tooltip.
    """
    parts = [part for part in parts if part["ms"] > 0]
    names = [name for name in colours if any(part["part"] == name for part in parts)]
    order = list(dict.fromkeys(part["place"] for part in parts))
    return {
        "data": {"values": parts},
        "width": WIDTH - 180,
        "height": {"step": 18 if len(order) <= 30 else 11},
        "mark": {"type": "bar"},
        "encoding": {
            "y": {"field": "place", "type": "nominal", "title": None, "sort": order, "axis": {"labelLimit": 300}},
            "x": {"field": "ms", "type": "quantitative", "title": "milliseconds per step", "stack": True},
            "color": {
                "field": "part",
                "type": "nominal",
                "scale": {"domain": names, "range": [colours[name] for name in names]},
                "legend": {"orient": "top", "title": None, "columns": 3},
            },
            "order": {"field": "order", "type": "quantitative"},
            "tooltip": [*({"field": name} for name in ("place", *tooltip, "part")), {"field": "ms", "format": ".4g"}],
        },
    }
