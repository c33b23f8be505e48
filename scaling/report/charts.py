"""Which figures a report has, and from what rows each is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from saman.scaling.analysis.analysis import Analysis
from saman.scaling.analysis.curves import Curve
from saman.scaling.models.laws import ScalingPoint
from saman.scaling.report.stage_charts import grid, stages
from saman.scaling.report.step_bars import step_bars
from saman.scaling.report.tables import learning_rows, point_rows, process_rows, run_rows, typical
from saman.scaling.report.vega import (
    CHOSEN,
    FADE,
    WIDTH,
    Figure,
    Spec,
    Style,
    band_layer,
    line_layer,
    over_ranks,
    rank_axis,
    set_apart,
    value_axis,
)
from saman.scaling.statistics.estimates import Rows

_MOST_SPREAD = 8  # curves in the figure of ranks
_MOST_RANKS = 256
_FEW_RANKS = 24  # up to which each has its own tick
_MOST_BARS = 40


def figures(analysis: Analysis) -> list[Figure]:
    """Every figure for which there is something to show."""
    curves = analysis.drawn
    if not curves:
        return []
    style = Style(tuple(curve.label for curve in curves))
    rows = [_told(row) for row in point_rows(curves)]
    makers: list[Callable[[], Figure | None]] = [
        lambda: throughput(curves, rows, style),
        lambda: speedup(rows, style),
        lambda: efficiency(rows, style),
        lambda: side_by_side(analysis, style),
        lambda: split(rows, style),
        lambda: spread(curves, style),
        lambda: stages(curves),
        lambda: grid(curves),
        lambda: learning(curves, style, "loss"),
        lambda: learning(curves, style, "accuracy"),
        lambda: predictions(curves, rows, style),
        lambda: energy(rows, style),
    ]
    return [figure for make in makers if (figure := make()) is not None]


def _told(row: dict[str, Any]) -> dict[str, Any]:
    low, high = row["samples_per_second_low"], row["samples_per_second_high"]
    between = f" ({low:.4g} – {high:.4g})" if low is not None else ""
    runs = row["runs"].split()
    shown = ", ".join(runs[:4]) + (f" and {len(runs) - 4} more" if len(runs) > 4 else "")
    return {**row, "told": f"{row['samples_per_second']:.4g} samples/s{between}", "runs": shown}


def throughput(curves: Sequence[Curve], rows: Rows, style: Style) -> Figure:
    """Throughput over ranks with intervals, the ideal line from the base case, and the fitted law."""
    x, y = rank_axis(rows), value_axis(rows, "samples_per_second", "samples per second")
    ideal, fitted = [], []
    for curve in curves if len(curves) <= _MOST_SPREAD else ():  # of many, the lines would hide what was measured
        base = next((point for point in curve.points if point.speedup and point.speedup.value == 1.0), None)
        counts = [point.ranks for point in curve.points]
        if base is not None and len(counts) > 1:
            per_rank = base.throughput.value / base.ranks
            ideal += [{"series": curve.label, "ranks": n, "value": per_rank * n} for n in counts]
        if curve.choice is not None:
            fitted += _law_line(curve, counts[0], counts[-1])
    layers = [line_layer(ideal, "value", x, y, None, [3, 3])] if ideal else []
    layers += [line_layer(fitted, "value", x, y, style, [1, 2])] if fitted else []
    spec = over_ranks(rows, style, "samples_per_second", "samples per second", layers)
    law = " Dotted: the fitted law." if fitted else ""
    dashed = " Dashed grey: ideal, from the base case." if ideal else ""
    caption = f"Median over runs with its order-statistic interval.{dashed}{law}"
    return Figure("throughput", "Throughput", caption, spec)


def _law_line(curve: Curve, first: int, last: int) -> Rows:
    assert curve.choice is not None
    measured = {point.ranks: point.nodes for point in curve.points}
    counts = sorted({int(round(n)) for n in np.geomspace(max(first, 1), last, 25)} | set(measured))
    per_node = max(-(-point.ranks // point.nodes) for point in curve.points)
    many = max(measured.values()) > 1
    asked = [ScalingPoint(n, 0.0, measured.get(n, max(1, -(-n // per_node)) if many else 1)) for n in counts]
    values = curve.choice.fit.throughput(asked)
    return [{"series": curve.label, "ranks": n, "value": float(v)} for n, v in zip(counts, values, strict=True)]


def speedup(rows: Rows, style: Style) -> Figure | None:
    """Speed-up over the base case with bootstrap intervals."""
    known = [row for row in rows if row["speedup"] is not None]
    if not any(row["speedup"] != 1.0 for row in known):
        return None
    base = min(row["ranks"] for row in known)
    counts = sorted({row["ranks"] for row in known})
    ideal = [{"series": "ideal", "ranks": n, "value": n / base} for n in counts]
    x, y = rank_axis(known), value_axis(known, "speedup", "speed-up")
    spec = over_ranks(known, style, "speedup", "speed-up", [line_layer(ideal, "value", x, y, None, [3, 3])])
    named = sorted({str(row["base"]) for row in known})
    caption = f"Against {', '.join(named[:4])}{' …' if len(named) > 4 else ''}. Dashed grey: ideal."
    return Figure("speedup", "Speed-up", caption, spec)


def efficiency(rows: Rows, style: Style) -> Figure | None:
    """Efficiency: speed-up ÷ ranks, relative to the base case."""
    known = [row for row in rows if row["efficiency"] is not None]
    if not any(row["speedup"] != 1.0 for row in known):
        return None
    spec = over_ranks(known, style, "efficiency", "efficiency", percent=True)
    return Figure("efficiency", "Efficiency", "Speed-up ÷ ranks, with bootstrap intervals where repeats allow.", spec)


def side_by_side(analysis: Analysis, style: Style) -> Figure | None:
    """Every run of every series at the largest count that most series share."""
    curves = analysis.drawn
    counts = [point.ranks for curve in curves for point in curve.points]
    most = max(counts.count(n) for n in counts)
    shared = max((n for n in counts if counts.count(n) >= max(2, most / 2)), default=0)
    if shared == 0:
        return None
    on_ranks = f"on {shared} rank{'s' if shared > 1 else ''}"
    label_of = {run.id: curve.label for curve in curves for run in curve.group.runs}
    here = [run for curve in curves for point in curve.points if point.ranks == shared for run in point.runs]
    runs = run_rows(here[:2000], label_of)
    points = [row for row in point_rows(curves) if row["ranks"] == shared]
    y = {"field": "series", "type": "nominal", "title": None, "axis": {"labelLimit": 220, "grid": True}}
    x: Spec = {"field": "samples_per_second", "type": "quantitative", "title": f"samples per second {on_ranks}"}
    x |= {"scale": {"zero": False, "nice": True}, "axis": {"format": "~s", "grid": False}}
    colour = {"field": "series", "type": "nominal", "legend": None, "scale": style.channels()["color"]["scale"]}
    tooltip = [{"field": name} for name in ("run", "samples_per_second", "window_median", "window_p5", "window_p95")]
    layers = [
        {
            "data": {"values": runs},
            "mark": {"type": "tick", "thickness": 1.5, "size": 16, "opacity": 0.55},
            "encoding": {"x": x, "y": y, "color": colour, "tooltip": tooltip},
        },
        {
            "data": {"values": [row for row in points if row["samples_per_second_low"] is not None]},
            "mark": {"type": "rule", "strokeWidth": 2},
            "encoding": {
                "x": {**x, "field": "samples_per_second_low"},
                "x2": {"field": "samples_per_second_high"},
                "y": y,
                "color": colour,
            },
        },
        {
            "data": {"values": points},
            "mark": {"type": "point", "filled": True, "size": 70},
            "encoding": {"x": x, "y": y, "color": colour},
        },
    ]
    spec = {"width": WIDTH - 120, "height": {"step": 26 if len(points) <= 20 else 14}, "layer": layers}
    caption = "Ticks: single runs. Dot: their median, with its interval where repeats allow."
    return Figure("strategies", f"Side by side {on_ranks}", caption, spec)


def split(rows: Rows, style: Style) -> Figure:
    """What a step is made of; of many curves only at the largest count of each."""
    if len(rows) > _MOST_BARS:
        largest = {name: max(row["ranks"] for row in rows if row["series"] == name) for name in style.series}
        rows = [row for row in rows if row["ranks"] == largest[row["series"]]]
    parts = []
    for row in rows:
        head = {"place": f"{row['series']} × {row['ranks']}", "series": row["series"], "ranks": row["ranks"]}
        measured = row["exchange_seconds"] is not None or row["ranks"] == 1
        work = "compute" if measured else "compute and exchange"
        parts.append({**head, "part": work, "order": 0, "ms": 1e3 * row["compute_seconds"]})
        parts.append({**head, "part": "exposed exchange", "order": 1, "ms": 1e3 * (row["exchange_seconds"] or 0.0)})
        parts.append({**head, "part": "input wait", "order": 2, "ms": 1e3 * row["input_wait_seconds"]})
        parts.append({**head, "part": "between stages", "order": 3, "ms": 1e3 * row["between_stages_seconds"]})
    colours = {"compute": "#0072B2", "compute and exchange": "#56B4E9", "exposed exchange": "#E69F00"}
    colours |= {"input wait": "#CC79A7", "between stages": "#888888"}
    unmeasured = any(part["part"] == "compute and exchange" for part in parts)
    lacks = " Where exposed exchange was not measured it is with compute." if unmeasured else ""
    caption = f"Medians over runs; exchange that hides behind backward is not in it.{lacks}"
    return Figure("step", "Where a step goes", caption, step_bars(parts, colours))


def spread(curves: Sequence[Curve], style: Style) -> Figure | None:
    """Every rank's own time at the largest count of each curve."""
    several = [curve for curve in curves if len(typical(curve.points[-1].runs).processes) > 1]
    chosen = sorted(several, key=lambda curve: -curve.points[-1].ranks)[:_MOST_SPREAD]
    style = Style(tuple(curve.label for curve in chosen)) if len(chosen) < len(style.series) > _MOST_SPREAD else style
    rows = []
    for curve in chosen:
        point = curve.points[-1]
        run = typical(point.runs)
        mine = [row for row in process_rows([curve]) if row["run"] == run.id and row["ranks"] == point.ranks]
        slow = {straggler.rank for straggler in point.stragglers}
        rows += [{**row, "ms": 1e3 * row["own_seconds_per_step"], "straggler": row["rank"] in slow} for row in mine]
    if len(rows) < 2:
        return None
    every = max(1, -(-max(row["rank"] for row in rows) // _MOST_RANKS))
    rows = [row for row in rows if row["rank"] % every == 0 or row["straggler"]]
    axis: Spec = {"format": "d", "labelOverlap": "greedy"}
    if max(row["rank"] for row in rows) < _FEW_RANKS:
        axis["values"] = sorted({row["rank"] for row in rows})
    told = [{"field": name} for name in ("series", "rank", "node", "ms", "variation", "straggler", "run")]
    spec: Spec = {
        "data": {"values": rows},
        "width": WIDTH,
        "height": 220,
        "params": [CHOSEN],
        "mark": {"type": "point", "filled": True},
        "encoding": {
            "x": {"field": "rank", "type": "quantitative", "title": "rank", "axis": axis},
            "y": {"field": "ms", "type": "quantitative", "title": "milliseconds per step", "scale": {"zero": False}},
            **style.channels(),
            "size": {"condition": {"test": "datum.straggler", "value": 160}, "value": 50},
            "opacity": FADE,
            "tooltip": told,
        },
    }
    named = [f"{curve.label}: rank {s.rank} on {s.node}" for curve in chosen for s in curve.points[-1].stragglers[:2]]
    known = all(point.split.exchange is not None for curve in chosen for point in curve.points[-1:])
    blame = f"Stragglers: {'; '.join(named)}." if named else "No rank stands out."
    unknown = "Without measured exchange everybody's step looks alike, and a straggler cannot be told."
    caption = f"Own time of every rank (process) in the typical run. {blame if known else unknown}"
    return Figure("ranks", "Ranks of the largest run", caption, spec)


def learning(curves: Sequence[Curve], style: Style, what: str) -> Figure | None:
    """Loss or accuracy against time and against samples, of the typical run of each curve's largest count."""
    losses, metrics = learning_rows(curves)
    largest = {curve.label: curve.points[-1].ranks for curve in curves}
    if what == "loss":
        rows, field, title = losses, "loss", "training loss"
    else:
        names = {row["metric"] for row in metrics}
        name = next((one for one in ("val_accuracy", "accuracy") if one in names), None)
        rows, field = [row for row in metrics if row["metric"] == name], "value"
        title = "validation accuracy" if name == "val_accuracy" else "accuracy"
    rows = [row for row in rows if row["ranks"] == largest.get(row["series"])]
    if len(rows) < 2:
        return None
    y = {"field": field, "type": "quantitative", "title": title, "scale": {"zero": False}}
    told = [{"field": name} for name in ("series", "ranks", "run", "samples", "seconds", field)]

    def panel(x: str, label: str, named: bool) -> Spec:
        axis = {"field": x, "type": "quantitative", "title": label, "axis": {"format": "~s", "tickCount": 5}}
        shown = {**y, **({} if named else {"title": None})}
        marks = {"type": "line", "strokeWidth": 1.5, "point": {"size": 14, "filled": True} if what != "loss" else False}
        encoding = {"x": axis, "y": shown, **style.channels(lines=True), "opacity": FADE, "tooltip": told}
        chosen = {**CHOSEN, "name": f"shown_{x}"}
        encoding["opacity"] = {"condition": {"param": f"shown_{x}", "value": 1}, "value": 0.07}
        return {"params": [chosen], "mark": marks, "encoding": encoding, "width": WIDTH / 2 - 40, "height": 240}

    spec = {
        "data": {"values": rows},
        "hconcat": [panel("seconds", "seconds", True), panel("samples", "samples", False)],
    }
    words = {"loss": ("loss", "Loss"), "accuracy": ("accuracy", "Accuracy")}[what]
    caption = "The typical (median) run at each series' largest count: against time how soon, against samples how well."
    return Figure(words[0], f"{words[1]} against time and samples", caption, spec)


def predictions(curves: Sequence[Curve], rows: Rows, style: Style) -> Figure | None:
    """Measured points, the law that was chosen and its prediction with bands."""
    ahead = [curve for curve in curves if curve.predictions and curve.choice is not None][:_MOST_SPREAD]
    if not ahead:
        return None
    kept = Style(tuple(curve.label for curve in ahead))
    bands, lines = [], []
    for curve in ahead:
        last = curve.points[-1]
        start = {"series": curve.label, "ranks": last.ranks}
        value = last.throughput.value
        bands.append({**start, "low": value, "high": value})
        lines += _law_line(curve, curve.points[0].ranks, max(one.ranks for one in curve.predictions))
        for one in curve.predictions:
            if one.low is not None:
                bands.append({"series": curve.label, "ranks": one.ranks, "low": one.low, "high": one.high})
    mine = [row for row in rows if row["series"] in kept.series]
    every = [*mine, *({"ranks": row["ranks"], "samples_per_second": row["high"]} for row in bands)]
    x, y = rank_axis(every), value_axis(every, "samples_per_second", "samples per second")
    spec = over_ranks(set_apart(mine, kept), kept, "samples_per_second", "samples per second")
    layers = [band_layer(bands, x, y, kept), line_layer(lines, "value", x, y, kept, [4, 3])]
    for layer in spec["layer"][1:]:
        layer["encoding"]["x"] = {**x, "field": "x"}
        layer["encoding"]["y"] = {**y, "field": layer["encoding"]["y"]["field"]}
    spec["layer"] = [*layers, *spec["layer"][1:]]
    laws = "; ".join(f"{curve.label}: {curve.choice.fit.law.title}" for curve in ahead if curve.choice)
    bands_are = "bands are 90 % prediction intervals calibrated on published curves"
    caption = f"Points are measured, lines are the laws chosen ({laws}), {bands_are}."
    return Figure("predictions", "Predictions", caption, spec)


def energy(rows: Rows, style: Style) -> Figure | None:
    """Energy per sample where a meter was read."""
    known = [{**row, "mj": 1e3 * row["joules_per_sample"]} for row in rows if row["joules_per_sample"] is not None]
    if not known:
        return None
    spec = over_ranks(known, style, "mj", "millijoules per sample")
    spec["layer"] = [layer for layer in spec["layer"] if "transform" not in layer]
    return Figure("energy", "Energy", "All that RAPL and NVML counted on the machine during a run ÷ its samples.", spec)
