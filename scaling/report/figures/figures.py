"""The list of a report's figures."""

from __future__ import annotations

from collections.abc import Callable

from saman.scaling.analysis.analysis import Analysis
from saman.scaling.report.figures.curve_figures import (
    efficiency,
    energy,
    point_data,
    predictions,
    speedup,
    throughput,
)
from saman.scaling.report.figures.run_figures import accuracy_over_time, loss_over_time, rank_times, side_by_side
from saman.scaling.report.figures.stage_figures import stage_grid, stage_times_figure
from saman.scaling.report.figures.step_bars import step_breakdown
from saman.scaling.report.figures.vega import Figure, SeriesStyle
from saman.scaling.report.tables import point_rows


def make_figures(analysis: Analysis) -> list[Figure]:
    """Every figure with data, in the order of the page; none where no curve may be drawn."""
    curves = analysis.drawable
    if not curves:
        return []
    style = SeriesStyle(tuple(curve.label for curve in curves))
    points = point_data(point_rows(curves))
    makers: list[Callable[[], Figure | None]] = [
        lambda: throughput(curves, points, style),
        lambda: speedup(curves, points, style),
        lambda: efficiency(curves, points, style),
        lambda: side_by_side(curves, style),
        lambda: step_breakdown(points, style),
        lambda: rank_times(curves, style),
        lambda: stage_times_figure(curves),
        lambda: stage_grid(curves),
        lambda: loss_over_time(curves, style),
        lambda: accuracy_over_time(curves, style),
        lambda: predictions(curves, points, style),
        lambda: energy(points, style),
    ]
    return [figure for make in makers if (figure := make()) is not None]
