"""The rows of pipelines: the measures of each stage, and the grid of stages × replicas."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from saman.scaling.analysis.curves import Curve
from saman.scaling.analysis.groups import RunGroup
from saman.scaling.analysis.points import CurvePoint
from saman.scaling.analysis.stages import StageMeasure
from saman.scaling.statistics.columns import ColumnName
from saman.scaling.statistics.intervals import Estimate, Quartiles


@dataclass(frozen=True)
class StageRow:
    """A stage of a pipeline at a rank count; times in seconds per step, with quartiles over windows."""

    series: str
    stages: int
    replicas: int
    ranks: int
    nodes: int
    micro_batches: int
    repeats: int
    stage: int
    layers: str | None
    busy_seconds: Quartiles
    busy_seconds_per_micro_batch: Quartiles
    predicted_seconds_per_micro_batch: float | None
    bubble_share: Quartiles
    waiting_seconds: Quartiles
    transfer_seconds: Quartiles
    exchange_seconds: Quartiles
    input_wait_seconds: Quartiles
    memory_over_start_bytes: Quartiles | None
    predicted_memory_bytes: float | None
    memory_against_predicted: float | None
    pass_cpu_seconds: Quartiles | None


@dataclass(frozen=True)
class GridRow:
    """A cell of the grid: stages × replicas of pipelines that differ in nothing else."""

    case: str
    stages: int
    replicas: int
    ranks: int
    nodes: int
    repeats: int
    samples_per_second: Estimate
    speedup: Estimate | None
    efficiency: Estimate | None
    bubble_share: float | None
    baseline: Annotated[str | None, ColumnName("base")]
    drawn: bool


def stage_rows(curves: Sequence[Curve]) -> list[StageRow]:
    """A row per curve of pipelines, rank count and stage."""
    return [_stage_row(curve, point, stage) for curve in curves for point in curve.points for stage in point.stages]


def _stage_row(curve: Curve, point: CurvePoint, stage: StageMeasure) -> StageRow:
    held, planned = stage.memory_bytes, stage.planned_bytes
    return StageRow(
        series=curve.label,
        stages=curve.group.stages,
        replicas=point.ranks // curve.group.stages,
        ranks=point.ranks,
        nodes=point.nodes,
        micro_batches=point.runs[0].facts.micro_batches,
        repeats=len(point.runs),
        stage=stage.stage,
        layers=stage.layers,
        busy_seconds=stage.busy,
        busy_seconds_per_micro_batch=stage.busy_per_micro_batch,
        predicted_seconds_per_micro_batch=stage.planned_seconds,
        bubble_share=stage.bubble_share,
        waiting_seconds=stage.waiting,
        transfer_seconds=stage.transfer,
        exchange_seconds=stage.exchange,
        input_wait_seconds=stage.input_wait,
        memory_over_start_bytes=held,
        predicted_memory_bytes=planned,
        memory_against_predicted=held.value / planned - 1 if held and planned else None,
        pass_cpu_seconds=stage.pass_cpu,
    )


def grid_rows(curves: Sequence[Curve]) -> list[GridRow]:
    """A row per cell of the grid of stages × replicas."""
    rows = [
        GridRow(
            case=case_of(curve.group),
            stages=curve.group.stages,
            replicas=point.ranks // curve.group.stages,
            ranks=point.ranks,
            nodes=point.nodes,
            repeats=len(point.runs),
            samples_per_second=point.throughput,
            speedup=point.speedup,
            efficiency=point.efficiency,
            bubble_share=_mean_bubble_share(point),
            baseline=curve.baseline.label if curve.baseline else None,
            drawn=curve.group.is_drawable,
        )
        for curve in curves
        if curve.group.strategy == "pipeline"
        for point in curve.points
    ]
    return sorted(rows, key=lambda row: (row.case, row.stages, row.replicas, row.nodes))


def case_of(group: RunGroup) -> str:
    """The label of a curve without its stages, which all cells of a grid share."""
    return re.sub(r" (stages \d+|own cores|shared cores)\b", "", group.label)


def _mean_bubble_share(point: CurvePoint) -> float | None:
    """The share of a step spent waiting for other stages, the mean over stages."""
    shares = [stage.bubble_share.value for stage in point.stages]
    return sum(shares) / len(shares) if shares else None
