"""The tables of a report about pipelines: their stages, and the grid of stages × replicas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from saman.scaling.analysis.curves import Curve
from saman.scaling.pipelines.forecast import PipelineForecast, forecast_rows
from saman.scaling.report.cells import Cells, around, between, make_table, told
from saman.scaling.report.stage_rows import grid_rows, stage_rows
from saman.scaling.report.writer import Table

_STAGES = (
    "Medians over the windows of all replicas and runs, with quartiles; milliseconds per step unless it says "
    "otherwise. Busy: both passes of all micro-batches and the update. Bubble: the share of a step spent waiting for "
    "other stages and replicas, also at its end. Exchange: what the last of them needs to sum over replicas. Memory: "
    "the most held over the start, with its range. Predicted: by the partitioner, where it chose the cuts."
)
_GRID = "Ranks = stages × replicas. Speed-ups are against the base that is named; intervals as for all points."
_MIB = 2**20
_PLACE: Cells = [
    ("stages", "number", lambda row: str(row["stages"])),
    ("replicas", "number", lambda row: str(row["replicas"])),
    ("ranks", "number", lambda row: str(row["ranks"])),
    ("nodes", "number", lambda row: str(row["nodes"])),
]


def forecast_table(found: PipelineForecast) -> Table:
    """Pipelines that were not run; without rows where nothing is a pipeline."""
    columns: Cells = [
        ("series", "text", lambda row: row["series"]),
        *_PLACE,
        ("micro-batches", "number", lambda row: str(row["micro_batches"])),
        ("samples/s", "number", lambda row: around(row, "samples_per_second", "low", "high")),
        ("speed-up", "number", lambda row: told(row["speedup"])),
        ("bubble", "number", lambda row: told(row["bubble_share"], percent=True)),
        ("node-hours per epoch", "number", lambda row: told(row["node_hours_per_epoch"])),
        ("caution", "text long", lambda row: row["caution"] or ""),
    ]
    note = ". ".join((found.intervals.capitalize(), *found.assumes))
    return make_table("Predicted pipelines", note + ".", columns, forecast_rows(found))


def stage_table(curves: Sequence[Curve]) -> Table:
    """What each stage took and held; without rows where nothing is a pipeline."""
    columns: Cells = [
        ("series", "text", lambda row: row["series"]),
        ("ranks", "number", lambda row: str(row["ranks"])),
        ("stage", "number", lambda row: str(row["stage"])),
        ("replicas", "number", lambda row: str(row["replicas"])),
        ("layers", "text", lambda row: row["layers"] or "–"),
        ("busy", "number", lambda row: between(_scaled(row, "busy_seconds", 1e3), "busy_seconds")),
        ("per micro-batch", "number", _per_micro_batch),
        ("predicted", "number", lambda row: _times(row["predicted_seconds_per_micro_batch"], 1e3)),
        ("bubble", "number", lambda row: between(row, "bubble_share", percent=True)),
        ("transfer", "number", lambda row: between(_scaled(row, "transfer_seconds", 1e3), "transfer_seconds")),
        ("exchange", "number", lambda row: between(_scaled(row, "exchange_seconds", 1e3), "exchange_seconds")),
        ("memory, MiB", "number", _memory),
        ("predicted, MiB", "number", lambda row: _times(row["predicted_memory_bytes"], 1 / _MIB)),
    ]
    return make_table("Pipeline stages", _STAGES, columns, stage_rows(curves))


def _per_micro_batch(row: dict[str, Any]) -> str:
    name = "busy_seconds_per_micro_batch"
    return between(_scaled(row, name, 1e3), name)


def _memory(row: dict[str, Any]) -> str:
    name = "memory_over_start_bytes"
    return between(_scaled(row, name, 1 / _MIB), name)


def _scaled(row: dict[str, Any], name: str, factor: float) -> dict[str, Any]:
    names = (name, f"{name}_low", f"{name}_high")
    return {one: None if row[one] is None else factor * row[one] for one in names}


def _times(value: float | None, factor: float) -> str:
    return told(None if value is None else factor * value)


def grid_table(curves: Sequence[Curve]) -> Table:
    """Throughput and speed-up over stages × replicas; without rows where nothing is a pipeline."""
    columns: Cells = [
        ("series", "text", lambda row: row["case"]),
        *_PLACE,
        ("repeats", "number", lambda row: str(row["repeats"])),
        ("samples/s", "number", lambda row: between(row, "samples_per_second")),
        ("speed-up", "number", lambda row: between(row, "speedup")),
        ("efficiency", "number", lambda row: between(row, "efficiency", percent=True)),
        ("bubble", "number", lambda row: told(row["bubble_share"], percent=True)),
        ("base", "text", lambda row: row["base"] or "none"),
    ]
    return make_table("Stages × replicas", _GRID, columns, grid_rows(curves))
