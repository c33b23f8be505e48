"""The figures of single runs: all runs side by side, the times of each rank, learning curves."""

from __future__ import annotations

from collections.abc import Sequence

from saman.runs.telemetry.slow_spans import slow_spans
from saman.scaling.analysis.curves import Curve, common_ranks
from saman.scaling.report.figures.vega import FADE, SELECTION, WIDTH, Data, Figure, SeriesStyle, Spec, sample_in_words
from saman.scaling.report.rows import ProcessRow
from saman.scaling.report.tables import loss_rows, median_run, metric_rows, point_rows, process_rows, run_rows
from saman.scaling.statistics.columns import to_columns

_MOST_CURVES = 8  # in the figure of ranks
_MOST_RANKS = 256
_MOST_TICKS = 24  # ranks up to which each has its own tick
_MOST_RUNS = 2000


def side_by_side(curves: Sequence[Curve], style: SeriesStyle) -> Figure | None:
    """The figure of every run of every series at the largest common rank count; None where series share none."""
    shared = common_ranks(curves)
    if shared is None:
        return None
    on_ranks = f"on {shared} rank{'s' if shared > 1 else ''}"
    series_of = {run.facts.id: curve.label for curve in curves for run in curve.group.runs}
    here = [run for curve in curves for point in curve.points if point.ranks == shared for run in point.runs]
    runs = [to_columns(row) for row in run_rows(here[:_MOST_RUNS], series_of)]
    points = [to_columns(row) for row in point_rows(curves) if row.ranks == shared]
    height = {"step": 26 if len(points) <= 20 else 14}
    layers = _side_by_side_layers(runs, points, style, f"samples per second {on_ranks}")
    spec = {"width": WIDTH - 120, "height": height, "layer": layers}
    caption = f"Ticks: single runs. Dot: their median.{sample_in_words(points)}"
    return Figure("strategies", f"Side by side {on_ranks}", caption, spec)


def _side_by_side_layers(runs: Data, points: Data, style: SeriesStyle, title: str) -> list[Spec]:
    y = {"field": "series", "type": "nominal", "title": None, "axis": {"labelLimit": 220, "grid": True}}
    x: Spec = {"field": "samples_per_second", "type": "quantitative", "title": title}
    x |= {"scale": {"zero": False, "nice": True}, "axis": {"format": "~s", "grid": False}}
    colour = {"field": "series", "type": "nominal", "legend": None, "scale": style.channels()["color"]["scale"]}
    tooltip = [{"field": name} for name in ("run", "samples_per_second", "window_median", "window_p5", "window_p95")]
    return [
        {
            "data": {"values": runs},
            "mark": {"type": "tick", "thickness": 1.5, "size": 16, "opacity": 0.55},
            "encoding": {"x": x, "y": y, "color": colour, "tooltip": tooltip},
        },
        {
            "data": {"values": [point for point in points if point["samples_per_second_low"] is not None]},
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


def rank_times(curves: Sequence[Curve], style: SeriesStyle) -> Figure | None:
    """The time before the exchange of every rank at the largest count of each curve; None below two processes."""
    several = [curve for curve in curves if len(median_run(curve.points[-1].runs).measured.processes) > 1]
    chosen = sorted(several, key=lambda curve: -curve.points[-1].ranks)[:_MOST_CURVES]
    if len(chosen) < len(style.series) > _MOST_CURVES:
        style = SeriesStyle(tuple(curve.label for curve in chosen))
    data = [entry for curve in chosen for entry in _rank_data(curve)]
    if len(data) < 2:
        return None
    every = max(1, -(-max(entry["rank"] for entry in data) // _MOST_RANKS))
    data = [entry for entry in data if entry["rank"] % every == 0 or entry["straggler"]]
    axis: Spec = {"format": "d", "labelOverlap": "greedy"}
    if max(entry["rank"] for entry in data) < _MOST_TICKS:
        axis["values"] = sorted({entry["rank"] for entry in data})
    tooltip = [{"field": name} for name in ("series", "rank", "node", "ms", "variation", "straggler", "run")]
    spec: Spec = {
        "data": {"values": data},
        "width": WIDTH,
        "height": 220,
        "params": [SELECTION],
        "mark": {"type": "point", "filled": True},
        "encoding": {
            "x": {"field": "rank", "type": "quantitative", "title": "rank", "axis": axis},
            "y": {"field": "ms", "type": "quantitative", "title": "milliseconds per step", "scale": {"zero": False}},
            **style.channels(),
            "size": {"condition": {"test": "datum.straggler", "value": 160}, "value": 50},
            "opacity": FADE,
            "tooltip": tooltip,
        },
    }
    run = "one run (n = 1), that of the median throughput, without intervals"
    times = "Own work and input wait of every rank (process), until it could exchange"
    caption = f"{times}; {run}. {_stragglers_in_words(chosen)}"
    return Figure("ranks", "Ranks of the largest run", caption, spec)


def _rank_data(curve: Curve) -> Data:
    """Times before the exchange of the processes of the median run at the largest count."""
    point = curve.points[-1]
    run = median_run(point.runs).facts.id
    slow = {straggler.rank for straggler in point.stragglers}
    rows: list[ProcessRow] = [row for row in process_rows([curve]) if row.run == run and row.ranks == point.ranks]
    return [{**to_columns(row), "ms": 1e3 * row.busy_seconds_per_step, "straggler": row.rank in slow} for row in rows]


def _stragglers_in_words(curves: Sequence[Curve]) -> str:
    if any(curve.points[-1].breakdown.exchange is None for curve in curves):
        return "Exposed exchange was not measured, so stragglers cannot be identified."
    named = [f"{curve.label}: rank {s.rank} on {s.node}" for curve in curves for s in curve.points[-1].stragglers[:2]]
    if named:
        return f"Stragglers: {'; '.join(named)}."
    in_parts = [
        f"{curve.label}: {slow.words}"
        for curve in curves
        for measured in [median_run(curve.points[-1].runs).measured]
        for slow in slow_spans(measured.processes, measured.node_of)[:2]
    ]
    return f"Stragglers for a part of the run: {'; '.join(in_parts)}." if in_parts else "No stragglers."


def loss_over_time(curves: Sequence[Curve], style: SeriesStyle) -> Figure | None:
    """Training loss against time and samples; None where no run recorded it."""
    largest = {curve.label: curve.points[-1].ranks for curve in curves}
    data = [to_columns(row) for row in loss_rows(curves) if row.ranks == largest[row.series]]
    return _learning_figure("loss", data, "loss", "training loss", style, with_points=False)


def accuracy_over_time(curves: Sequence[Curve], style: SeriesStyle) -> Figure | None:
    """Accuracy, on validation data where there is any, against time and samples; None where no run recorded it."""
    rows = metric_rows(curves)
    largest = {curve.label: curve.points[-1].ranks for curve in curves}
    metric = "val_accuracy" if any(row.metric == "val_accuracy" for row in rows) else "accuracy"
    title = "validation accuracy" if metric == "val_accuracy" else "accuracy"
    data = [to_columns(row) for row in rows if row.metric == metric and row.ranks == largest[row.series]]
    return _learning_figure("accuracy", data, "value", title, style, with_points=True)


def _learning_figure(
    name: str, data: Data, field: str, title: str, style: SeriesStyle, with_points: bool
) -> Figure | None:
    """Two panels, over seconds and over samples; None below two points."""
    if len(data) < 2:
        return None
    y = {"field": field, "type": "quantitative", "title": title, "scale": {"zero": False}}
    tooltip = [{"field": entry} for entry in ("series", "ranks", "run", "samples", "seconds", field)]

    def panel(x: str, with_title: bool) -> Spec:
        axis = {"field": x, "type": "quantitative", "title": x, "axis": {"format": "~s", "tickCount": 5}}
        y_axis = {**y, **({} if with_title else {"title": None})}
        marks = {"type": "line", "strokeWidth": 1.5, "point": {"size": 14, "filled": True} if with_points else False}
        selection = {**SELECTION, "name": f"selected_{x}"}
        encoding = {"x": axis, "y": y_axis, **style.channels(lines=True), "tooltip": tooltip}
        encoding["opacity"] = {"condition": {"param": f"selected_{x}", "value": 1}, "value": 0.07}
        return {"params": [selection], "mark": marks, "encoding": encoding, "width": WIDTH / 2 - 40, "height": 240}

    spec = {"data": {"values": data}, "hconcat": [panel("seconds", True), panel("samples", False)]}
    caption = "One run (n = 1) per series at its largest rank count, that of the median throughput; no intervals."
    return Figure(name, f"{name.capitalize()} against time and samples", caption, spec)
