"""The figures over rank counts: throughput, speed-up, efficiency, predictions, energy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from saman.scaling.analysis.curves import Curve
from saman.scaling.models.laws import ScalingPoint
from saman.scaling.report.figures.vega import (
    Data,
    Figure,
    SeriesStyle,
    band_layer,
    line_layer,
    over_ranks,
    rank_axis,
    repeats_in_words,
    sample_in_words,
    spread_horizontally,
    value_axis,
)
from saman.scaling.report.rows import PointRow
from saman.scaling.statistics.columns import to_columns

_MOST_LINES = 8  # curves with ideal and fitted lines; of more, the lines would hide the points
_MOST_RUNS = 4  # named in a tooltip
_MOST_BASELINES = 4  # named in a caption


def point_data(rows: Sequence[PointRow]) -> Data:
    """Points as data of figures, with texts for tooltips."""
    found = []
    for row in rows:
        columns = to_columns(row)
        interval = row.samples_per_second.interval
        limits = f" ({interval.low:.4g} – {interval.high:.4g})" if interval else ""
        runs = row.runs.split()
        more = f" and {len(runs) - _MOST_RUNS} more" if len(runs) > _MOST_RUNS else ""
        columns["throughput"] = f"{row.samples_per_second.value:.4g} samples/s{limits}"
        columns["runs"] = ", ".join(runs[:_MOST_RUNS]) + more
        found.append(columns)
    return found


def throughput(curves: Sequence[Curve], points: Data, style: SeriesStyle) -> Figure:
    """Draw throughput over ranks with intervals, the ideal line from the baseline, and the fitted law.

    Args:
        curves: The curves.
        points: Their points as values of a figure.
        style: Colours by curve.
    """
    x, y = rank_axis(points), value_axis(points, "samples_per_second", "samples per second")
    few = curves if len(curves) <= _MOST_LINES else ()
    ideal = [entry for curve in few for entry in _ideal_line(curve)]
    fitted = [entry for curve in few for entry in _law_line(curve, curve.points[0].ranks, curve.points[-1].ranks)]
    layers = [line_layer(ideal, "value", x, y, None, [3, 3])] if ideal else []
    layers += [line_layer(fitted, "value", x, y, style, [1, 2])] if fitted else []
    spec = over_ranks(points, style, "samples_per_second", "samples per second", layers)
    dashed = " Dashed grey: ideal, from the baseline." if ideal else ""
    dotted = " Dotted: the fitted law." if fitted else ""
    caption = f"Median over runs, order-statistic interval.{sample_in_words(points)}{dashed}{dotted}"
    return Figure("throughput", "Throughput", caption, spec)


def _ideal_line(curve: Curve) -> Data:
    """Throughput at an efficiency of 1, from the baseline to the largest count."""
    if curve.baseline is None or not curve.points_beyond_baseline:
        return []
    counts = sorted({curve.baseline.ranks, *(point.ranks for point in curve.points)})
    return [{"series": curve.label, "ranks": n, "value": curve.baseline.ideal_throughput(n)} for n in counts]


def _law_line(curve: Curve, first: int, last: int) -> Data:
    """The curve's law between two rank counts; empty where no law was chosen."""
    if curve.choice is None:
        return []
    measured = {point.ranks: point.nodes for point in curve.points}
    counts = sorted({int(round(n)) for n in np.geomspace(max(first, 1), last, 25)} | set(measured))
    per_node = max(-(-point.ranks // point.nodes) for point in curve.points)
    several_nodes = max(measured.values()) > 1
    places = [ScalingPoint(n, 0.0, measured.get(n, max(1, -(-n // per_node)) if several_nodes else 1)) for n in counts]
    values = curve.choice.fit.throughput(places)
    return [{"series": curve.label, "ranks": n, "value": float(v)} for n, v in zip(counts, values, strict=True)]


def speedup(curves: Sequence[Curve], points: Data, style: SeriesStyle) -> Figure | None:
    """Draw the speed-up over the baseline with bootstrap intervals; None where no curve goes beyond its baseline.

    Args:
        curves: The curves.
        points: Their points as values of a figure.
        style: Colours by curve.
    """
    baselines = [curve.baseline for curve in curves if curve.baseline is not None and curve.points_beyond_baseline]
    if not baselines:
        return None
    known = [point for point in points if point["speedup"] is not None]
    counts = sorted({point["ranks"] for point in known})
    ideal = [{"series": "ideal", "ranks": n, "value": n / baselines[0].ranks} for n in counts]
    x, y = rank_axis(known), value_axis(known, "speedup", "speed-up")
    spec = over_ranks(known, style, "speedup", "speed-up", [line_layer(ideal, "value", x, y, None, [3, 3])])
    named = sorted({baseline.label for baseline in baselines})
    more = " …" if len(named) > _MOST_BASELINES else ""
    sample = sample_in_words(_beyond_baseline(known), "speedup")
    caption = f"Baseline: {', '.join(named[:_MOST_BASELINES])}{more}.{sample} Dashed grey: ideal."
    return Figure("speedup", "Speed-up", caption, spec)


def _beyond_baseline(points: Data) -> Data:
    """The points that have an interval of their own: all but the baseline itself."""
    return [point for point in points if point["speedup_low"] is not None or point["speedup"] != 1.0] or points


def efficiency(curves: Sequence[Curve], points: Data, style: SeriesStyle) -> Figure | None:
    """Draw the efficiency relative to the baseline; None where no curve goes beyond its baseline.

    Args:
        curves: The curves.
        points: Their points as values of a figure.
        style: Colours by curve.
    """
    if not any(curve.points_beyond_baseline for curve in curves):
        return None
    known = [point for point in points if point["efficiency"] is not None]
    spec = over_ranks(known, style, "efficiency", "efficiency", percent=True)
    sample = sample_in_words(_beyond_baseline(known), "efficiency")
    caption = f"Speed-up ÷ ranks, relative to the baseline, bootstrap over runs.{sample}"
    return Figure("efficiency", "Efficiency", caption, spec)


def predictions(curves: Sequence[Curve], points: Data, style: SeriesStyle) -> Figure | None:
    """Draw measured points, the heaviest laws and the bands of the stack; None without predictions.

    Args:
        curves: The curves.
        points: Their points as values of a figure.
        style: Colours by curve.
    """
    ahead = [curve for curve in curves if curve.predictions and curve.choice is not None][:_MOST_LINES]
    if not ahead:
        return None
    kept = SeriesStyle(tuple(curve.label for curve in ahead))
    bands = [entry for curve in ahead for entry in _prediction_band(curve)]
    lines = [
        entry
        for curve in ahead
        for entry in _law_line(curve, curve.points[0].ranks, max(forecast.ranks for forecast in curve.predictions))
    ]
    own = [point for point in points if point["series"] in kept.series]
    edges = [{"ranks": each["ranks"], "samples_per_second": each[edge]} for each in bands for edge in ("low", "high")]
    every = [*own, *edges]
    x, y = rank_axis(every), value_axis(every, "samples_per_second", "samples per second")
    spec = over_ranks(spread_horizontally(own, kept), kept, "samples_per_second", "samples per second")
    layers = [band_layer(bands, x, y, kept), line_layer(lines, "value", x, y, kept, [4, 3])]
    for layer in spec["layer"][1:]:
        layer["encoding"]["x"] = {**x, "field": "x"}
        layer["encoding"]["y"] = {**y, "field": layer["encoding"]["y"]["field"]}
    spec["layer"] = [*layers, *spec["layer"][1:]]
    laws = "; ".join(f"{curve.label}: {curve.choice.fit.law.title}" for curve in ahead if curve.choice)
    caption = (
        f"Points: measured. Lines: the heaviest law of the stack ({laws}). Bands: 90 % prediction intervals of the "
        f"stack.{sample_in_words(own)}"
    )
    return Figure("predictions", "Predictions", caption, spec)


def _prediction_band(curve: Curve) -> Data:
    """The interval of predictions, from the largest measured count on."""
    last = curve.points[-1]
    start = {"series": curve.label, "ranks": last.ranks, "low": last.throughput.value, "high": last.throughput.value}
    return [
        start,
        *(
            {"series": curve.label, "ranks": forecast.ranks, "low": forecast.low, "high": forecast.high}
            for forecast in curve.predictions
            if forecast.low is not None
        ),
    ]


def energy(points: Data, style: SeriesStyle) -> Figure | None:
    """The figure of energy per sample; None where no meter was read."""
    known = [
        {**point, "mj": 1e3 * point["joules_per_sample"]} for point in points if point["joules_per_sample"] is not None
    ]
    if not known:
        return None
    spec = over_ranks(known, style, "mj", "millijoules per sample")
    spec["layer"] = [layer for layer in spec["layer"] if "transform" not in layer]
    sample = repeats_in_words(int(point["repeats"]) for point in known)
    caption = f"Energy of the whole machine during a run (RAPL, NVML) ÷ samples; median of {sample} runs, no interval."
    return Figure("energy", "Energy", caption, spec)
