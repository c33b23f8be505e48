"""The tables of pipelines on the page: stages, the grid of stages × replicas, predictions."""

from __future__ import annotations

from collections.abc import Sequence

from saman.scaling.analysis.curves import Curve
from saman.scaling.pipelines.forecast import PipelineForecast, PipelineThroughput
from saman.scaling.report.cells import (
    CellColumn,
    format_estimate,
    format_interval,
    format_number,
    format_quartiles,
    make_table,
)
from saman.scaling.report.stage_rows import GridRow, StageRow, grid_rows, stage_rows
from saman.scaling.report.writer import CellKind, Table, TableKind
from saman.scaling.stack.track_record import TrackRecord

_STAGES_NOTE = (
    "Medians over the windows of all replicas and runs, with quartiles, in milliseconds per step unless noted. "
    "Busy: wall time of both passes of all micro-batches and the update; CPU: the CPU time of the passes, smaller than "
    "busy where ranks take turns on a core. Bubble: the share of a step spent waiting for other stages "
    "and replicas, including the wait at its end. Exchange: the gradient sum over replicas, as the last stage sees it. "
    "Memory: the peak over the start of the process, with its range. Predicted: by the partitioner, unless the cuts "
    "were given by hand."
)
_GRID_NOTE = "Ranks = stages × replicas. Speed-up is relative to the named baseline; intervals as for all points."
_MIB = 2**20


def forecast_table(forecast: PipelineForecast, track: TrackRecord | None = None) -> Table:
    """Predicted pipelines with their track record; without rows where no run is a pipeline."""
    columns: list[CellColumn[PipelineThroughput]] = [
        CellColumn("series", lambda row: row.series, CellKind.TEXT),
        CellColumn("stages", lambda row: str(row.stages)),
        CellColumn("replicas", lambda row: str(row.replicas)),
        CellColumn("ranks", lambda row: str(row.ranks)),
        CellColumn("nodes", lambda row: str(row.nodes)),
        CellColumn("micro-batches", lambda row: str(row.micro_batches)),
        CellColumn("samples/s", lambda row: format_interval(row.samples_per_second, row.low, row.high)),
        CellColumn("speed-up", lambda row: format_number(row.speedup)),
        CellColumn("bubble", lambda row: format_number(row.bubble_share, percent=True)),
        CellColumn("imbalance, ms", lambda row: format_number(1e3 * row.imbalance_seconds)),
        CellColumn("transfer, ms", lambda row: format_number(1e3 * row.transfer_seconds)),
        CellColumn("node-hours per epoch", lambda row: format_number(row.node_hours_per_epoch)),
        CellColumn("caution", lambda row: row.caution or "", CellKind.LONG_TEXT),
    ]
    words = (forecast.intervals.capitalize(), *forecast.assumes, *(f"Withheld: {text}" for text in forecast.left_out))
    note = ". ".join(text for text in words if text) + "."
    note += f" {track.sentence}" if track else ""
    return make_table(TableKind.PIPELINE_PREDICTIONS, note, columns, forecast.predictions)


def stage_table(curves: Sequence[Curve]) -> Table:
    """Time and memory of each stage; without rows where no run is a pipeline."""
    columns: list[CellColumn[StageRow]] = [
        CellColumn("series", lambda row: row.series, CellKind.TEXT, main=True),
        CellColumn("ranks", lambda row: str(row.ranks), main=True),
        CellColumn("stage", lambda row: str(row.stage), main=True),
        CellColumn("replicas", lambda row: str(row.replicas)),
        CellColumn("layers", lambda row: row.layers or "–", CellKind.TEXT),
        CellColumn("busy", lambda row: format_quartiles(row.busy_seconds, 1e3), main=True),
        CellColumn("CPU", lambda row: format_quartiles(row.pass_cpu_seconds, 1e3)),
        CellColumn("per micro-batch", lambda row: format_quartiles(row.busy_seconds_per_micro_batch, 1e3)),
        CellColumn("predicted", lambda row: _scaled(row.predicted_seconds_per_micro_batch, 1e3)),
        CellColumn("bubble", lambda row: format_quartiles(row.bubble_share, percent=True), main=True),
        CellColumn("transfer", lambda row: format_quartiles(row.transfer_seconds, 1e3), main=True),
        CellColumn("exchange", lambda row: format_quartiles(row.exchange_seconds, 1e3), main=True),
        CellColumn("memory, MiB", lambda row: format_quartiles(row.memory_over_start_bytes, 1 / _MIB)),
        CellColumn("predicted, MiB", lambda row: _scaled(row.predicted_memory_bytes, 1 / _MIB)),
    ]
    return make_table(TableKind.STAGES, _STAGES_NOTE, columns, stage_rows(curves))


def _scaled(value: float | None, factor: float) -> str:
    return format_number(None if value is None else factor * value)


def grid_table(curves: Sequence[Curve]) -> Table:
    """Throughput and speed-up over stages × replicas; without rows where no run is a pipeline."""
    columns: list[CellColumn[GridRow]] = [
        CellColumn("series", lambda row: row.case, CellKind.TEXT, main=True),
        CellColumn("stages", lambda row: str(row.stages), main=True),
        CellColumn("replicas", lambda row: str(row.replicas), main=True),
        CellColumn("ranks", lambda row: str(row.ranks)),
        CellColumn("nodes", lambda row: str(row.nodes)),
        CellColumn("repeats", lambda row: str(row.repeats), main=True),
        CellColumn("samples/s", lambda row: format_estimate(row.samples_per_second), main=True),
        CellColumn("speed-up", lambda row: format_estimate(row.speedup), main=True),
        CellColumn("efficiency", lambda row: format_estimate(row.efficiency, percent=True)),
        CellColumn("bubble", lambda row: format_number(row.bubble_share, percent=True), main=True),
        CellColumn("baseline", lambda row: row.baseline or "none", CellKind.TEXT),
    ]
    return make_table(TableKind.GRID, _GRID_NOTE, columns, grid_rows(curves))
