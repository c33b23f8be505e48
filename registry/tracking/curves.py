"""Draws the metrics of a run by step as an SVG, with the renderer of the reports (Vega-Lite)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from saman.registry.tracking.run_history import MetricPoint, RunHistory
from saman.runs.files.whole import write_whole

_FEW_STEPS = 30  # up to which each point gets a mark
_LEFT_OUT = frozenset({"learning_rate", "sustained_samples_per_second"})


def draw_curves(history: RunHistory, file: Path) -> Path | None:
    """Draw every metric by step.

    Args:
        history: The run.
        file: The SVG file; its folder is made where it is missing.

    Returns:
        ``file``; ``None`` where the run has no metrics.
    """
    points = [point for point in history.points if point.name not in _LEFT_OUT]
    if not points:
        return None
    import vl_convert

    file.parent.mkdir(exist_ok=True)
    write_whole(file, vl_convert.vegalite_to_svg(curves_spec(points)))
    return file


def curves_spec(points: Sequence[MetricPoint]) -> dict[str, Any]:
    """The Vega-Lite specification of a tracked run's curves: a panel for each metric, in two columns. Pure."""
    rows = [{"step": point.step, "value": point.value, "metric": point.name} for point in points]
    value = {"field": "value", "type": "quantitative", "scale": {"zero": False}, "title": None}
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "background": "#ffffff",
        "data": {"values": rows},
        "facet": {"field": "metric", "type": "nominal", "title": None},
        "columns": 2,
        "resolve": {"scale": {"y": "independent"}},
        "spec": {
            "width": 280,
            "height": 160,
            "mark": {"type": "line", "point": len({point.step for point in points}) < _FEW_STEPS},
            "encoding": {"x": {"field": "step", "type": "quantitative"}, "y": value},
        },
    }
