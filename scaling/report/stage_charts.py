"""The figures of pipelines: where the step of each stage goes, and the grid of stages × replicas."""

from __future__ import annotations

from collections.abc import Sequence

from saman.scaling.analysis.curves import Curve
from saman.scaling.report.cells import told
from saman.scaling.report.stage_rows import grid_rows, stage_rows
from saman.scaling.report.step_bars import step_bars
from saman.scaling.report.vega import Figure, Spec
from saman.scaling.statistics.estimates import Rows

_MOST_BARS = 40
_CELL = 64  # pixels
# What a stage does in a step: the column of its seconds, and its colour.
_PARTS = {
    "busy": ("busy_seconds", "#0072B2"),
    "transfer": ("transfer_seconds", "#009E73"),
    "exchange": ("exchange_seconds", "#E69F00"),
    "input wait": ("input_wait_seconds", "#CC79A7"),
    "waiting": ("waiting_seconds", "#888888"),
}


def stages(curves: Sequence[Curve]) -> Figure | None:
    """What each stage does in a step; of many stages only at the largest count of each series."""
    rows = stage_rows(curves)
    if len(rows) > _MOST_BARS:
        largest = {curve.label: curve.points[-1].ranks for curve in curves}
        rows = [row for row in rows if row["ranks"] == largest[row["series"]]]
    if not rows:
        return None
    parts: Rows = []
    for row in rows:
        place = f"{row['series']} × {row['ranks']}, stage {row['stage']}"
        head = {"place": place, "layers": row["layers"] or "–"}
        values = {name: 1e3 * row[column] for name, (column, _) in _PARTS.items()}
        parts += [{**head, "part": name, "order": at, "ms": value} for at, (name, value) in enumerate(values.items())]
    spec = step_bars(parts, {name: colour for name, (_, colour) in _PARTS.items()}, ["layers"])
    caption = "Medians over windows, replicas and runs. The others wait for the stage that waits least."
    return Figure("stages", "Pipeline stages", caption, spec)


def grid(curves: Sequence[Curve]) -> Figure | None:
    """Speed-up (throughput where there is no base) over stages × replicas, one map per series."""
    rows = grid_rows(curves)
    cases = [case for case in dict.fromkeys(row["case"] for row in rows) if _is_grid(rows, case)]
    rows = [row for row in rows if row["case"] in cases]
    if not rows:
        return None
    field = "speedup" if all(row["speedup"] is not None for row in rows) else "samples_per_second"
    middle = sum((min(row[field] for row in rows), max(row[field] for row in rows))) / 2
    cells = [
        {
            **{name: row[name] for name in ("case", "stages", "replicas", "ranks", "nodes", "repeats", "base")},
            "value": row[field],
            "told": told(row[field]),
            "low": row[f"{field}_low"],
            "high": row[f"{field}_high"],
        }
        for row in rows
    ]
    x: Spec = {"field": "replicas", "type": "ordinal", "title": "replicas", "axis": {"labelAngle": 0}}
    y: Spec = {"field": "stages", "type": "ordinal", "title": "stages", "sort": "descending"}
    shade: Spec = {"field": "value", "type": "quantitative", "title": field.replace("_", " "), "legend": None}
    shade["scale"] = {"scheme": "blues"}
    hover = [{"field": name} for name in ("case", "stages", "replicas", "ranks", "told", "low", "high", "base")]
    ink = {"condition": {"test": f"datum.value > {middle!r}", "value": "#ffffff"}, "value": "#1c1e21"}
    text = {"type": "text", "fontSize": 13}
    inner: Spec = {
        "width": {"step": _CELL},
        "height": {"step": _CELL},
        "layer": [
            {"mark": {"type": "rect"}, "encoding": {"x": x, "y": y, "color": shade, "tooltip": hover}},
            {"mark": text, "encoding": {"x": x, "y": y, "text": {"field": "told"}, "color": ink}},
        ],
    }
    facet = {"field": "case", "type": "nominal", "title": None}
    spec: Spec = {"data": {"values": cells}, "facet": facet, "columns": 2, "spec": inner}
    if len(cases) == 1:
        spec = {"data": {"values": cells}, **inner}
    what = f"Speed-up against {', '.join(sorted({str(row['base']) for row in rows})[:4])}"
    caption = f"{what if field == 'speedup' else 'Samples per second'}; ranks = stages × replicas."
    return Figure("grid", "Stages × replicas", caption, spec)


def _is_grid(rows: Rows, case: str) -> bool:
    """Whether a case varies in its stages."""
    return len({row["stages"] for row in rows if row["case"] == case}) > 1
