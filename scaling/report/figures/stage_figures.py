"""The figures of pipelines: the breakdown of a step by stage, and the grid of stages × replicas."""

from __future__ import annotations

from collections.abc import Sequence

from saman.scaling.analysis.curves import Curve
from saman.scaling.report.cells import format_number
from saman.scaling.report.figures.step_bars import step_bars
from saman.scaling.report.figures.vega import Data, Figure, Spec, repeats_in_words
from saman.scaling.report.stage_rows import GridRow, grid_rows, stage_rows
from saman.scaling.statistics.intervals import Estimate

_MOST_BARS = 40
_MOST_BASELINES = 4  # named in the caption
_CELL_PIXELS = 64
_COLOURS = {
    "busy": "#0072B2",
    "transfer": "#009E73",
    "exchange": "#E69F00",
    "input wait": "#CC79A7",
    "waiting": "#888888",
}


def stage_times_figure(curves: Sequence[Curve]) -> Figure | None:
    """The breakdown of a step by stage; of many stages only at the largest count of each series."""
    rows = stage_rows(curves)
    if len(rows) > _MOST_BARS:
        largest = {curve.label: curve.points[-1].ranks for curve in curves}
        rows = [row for row in rows if row.ranks == largest[row.series]]
    if not rows:
        return None
    parts: Data = []
    for row in rows:
        head = {"place": f"{row.series} × {row.ranks}, stage {row.stage}", "layers": row.layers or "–"}
        seconds = {
            "busy": row.busy_seconds,
            "transfer": row.transfer_seconds,
            "exchange": row.exchange_seconds,
            "input wait": row.input_wait_seconds,
            "waiting": row.waiting_seconds,
        }
        parts += [
            {**head, "part": part, "order": order, "ms": 1e3 * quartiles.value}
            for order, (part, quartiles) in enumerate(seconds.items())
        ]
    sample = repeats_in_words(row.repeats for row in rows)
    caption = (
        f"Medians over the windows of all replicas and {sample} runs; quartiles are in the table. All stages wait for "
        "the stage with the shortest wait."
    )
    return Figure("stages", "Pipeline stages", caption, step_bars(parts, _COLOURS, ["layers"]))


def stage_grid(curves: Sequence[Curve]) -> Figure | None:
    """Speed-up (throughput without a baseline) over stages × replicas, a map per series with several stage counts."""
    rows = grid_rows(curves)
    cases = [case for case in dict.fromkeys(row.case for row in rows) if _has_several_stages(rows, case)]
    rows = [row for row in rows if row.case in cases]
    if not rows:
        return None
    with_speedup = all(row.speedup is not None for row in rows)
    cells = [_cell(row, with_speedup) for row in rows]
    inner = _map([_estimate(row, with_speedup).value for row in rows], "speed-up" if with_speedup else "samples/s")
    facet = {"field": "case", "type": "nominal", "title": None}
    spec: Spec = {"data": {"values": cells}, "facet": facet, "columns": 2, "spec": inner}
    if len(cases) == 1:
        spec = {"data": {"values": cells}, **inner}
    baselines = sorted({str(row.baseline) for row in rows})[:_MOST_BASELINES]
    quantity = f"Speed-up; baseline: {', '.join(baselines)}" if with_speedup else "Samples per second"
    sample = repeats_in_words(row.repeats for row in rows)
    caption = (
        f"{quantity}. Median of {sample} runs per cell; 95% intervals are in the table. Ranks = stages × replicas."
    )
    return Figure("grid", "Stages × replicas", caption, spec)


def _estimate(row: GridRow, with_speedup: bool) -> Estimate:
    return row.speedup if with_speedup and row.speedup is not None else row.samples_per_second


def _cell(row: GridRow, with_speedup: bool) -> dict[str, object]:
    estimate = _estimate(row, with_speedup)
    return {
        "case": row.case,
        "stages": row.stages,
        "replicas": row.replicas,
        "ranks": row.ranks,
        "nodes": row.nodes,
        "repeats": row.repeats,
        "baseline": row.baseline,
        "value": estimate.value,
        "text": format_number(estimate.value),
        "low": estimate.interval.low if estimate.interval else None,
        "high": estimate.interval.high if estimate.interval else None,
    }


def _map(values: Sequence[float], title: str) -> Spec:
    """A heat map with the value in each cell; light text on dark cells."""
    middle = (min(values) + max(values)) / 2
    x: Spec = {"field": "replicas", "type": "ordinal", "title": "replicas", "axis": {"labelAngle": 0}}
    y: Spec = {"field": "stages", "type": "ordinal", "title": "stages", "sort": "descending"}
    shade: Spec = {"field": "value", "type": "quantitative", "title": title, "legend": None}
    shade["scale"] = {"scheme": "blues"}
    tooltip = [{"field": name} for name in ("case", "stages", "replicas", "ranks", "text", "low", "high", "baseline")]
    ink = {"condition": {"test": f"datum.value > {middle!r}", "value": "#ffffff"}, "value": "#1c1e21"}
    return {
        "width": {"step": _CELL_PIXELS},
        "height": {"step": _CELL_PIXELS},
        "layer": [
            {"mark": {"type": "rect"}, "encoding": {"x": x, "y": y, "color": shade, "tooltip": tooltip}},
            {
                "mark": {"type": "text", "fontSize": 13},
                "encoding": {"x": x, "y": y, "text": {"field": "text"}, "color": ink},
            },
        ],
    }


def _has_several_stages(rows: Sequence[GridRow], case: str) -> bool:
    return len({row.stages for row in rows if row.case == case}) > 1
