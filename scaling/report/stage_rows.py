"""The numbers of pipelines as rows: what each stage takes and holds, and the grid of stages × replicas."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from saman.scaling.analysis.curves import Curve
from saman.scaling.analysis.groups import Group
from saman.scaling.analysis.points import CurvePoint
from saman.scaling.analysis.stages import Quartiles, StageMeasure
from saman.scaling.statistics.estimates import Rows, estimate_columns


def stage_rows(curves: Sequence[Curve]) -> Rows:
    """One row per curve of pipelines, rank count and stage; times in seconds per step, with quartiles over windows."""
    return [
        {
            "series": curve.label,
            "stages": curve.group.stages,
            "replicas": point.ranks // curve.group.stages,
            "ranks": point.ranks,
            "nodes": point.nodes,
            "micro_batches": point.runs[0].micro_batches,
            "repeats": len(point.runs),
            **_columns(one),
        }
        for curve in curves
        for point in curve.points
        for one in point.stages
    ]


def _columns(one: StageMeasure) -> dict[str, Any]:
    held, told = one.memory_bytes, one.promised_bytes
    return {
        "stage": one.stage,
        "layers": one.layers,
        **_spread_columns("busy_seconds", one.busy),
        **_spread_columns("busy_seconds_per_micro_batch", one.busy_per_micro_batch),
        "predicted_seconds_per_micro_batch": one.promised_seconds,
        **_spread_columns("bubble_share", one.bubble_share),
        **_spread_columns("waiting_seconds", one.waiting),
        **_spread_columns("transfer_seconds", one.transfer),
        **_spread_columns("exchange_seconds", one.exchange),
        **_spread_columns("input_wait_seconds", one.input_wait),
        **_spread_columns("memory_over_start_bytes", held),
        "predicted_memory_bytes": told,
        "memory_against_predicted": held.value / told - 1 if held and told else None,
    }


def _spread_columns(name: str, spread: Quartiles | None) -> dict[str, Any]:
    if spread is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    return {name: spread.value, f"{name}_low": spread.low, f"{name}_high": spread.high}


def grid_rows(curves: Sequence[Curve]) -> Rows:
    """One row per cell of a hybrid grid: stages × replicas of pipelines that differ in nothing else."""
    rows = [
        {
            "case": case_of(curve.group),
            "stages": curve.group.stages,
            "replicas": point.ranks // curve.group.stages,
            "ranks": point.ranks,
            "nodes": point.nodes,
            "repeats": len(point.runs),
            **estimate_columns("samples_per_second", point.throughput),
            **estimate_columns("speedup", point.speedup),
            **estimate_columns("efficiency", point.efficiency),
            "bubble_share": _bubble(point),
            "base": curve.base,
            "drawn": curve.group.drawn,
        }
        for curve in curves
        if curve.group.strategy == "pipeline"
        for point in curve.points
    ]
    return sorted(rows, key=lambda row: (row["case"], row["stages"], row["replicas"], row["nodes"]))


def case_of(group: Group) -> str:
    """The label of a curve without its stages: what the cells of one grid have in common."""
    return re.sub(r" stages \d+\b", "", group.label)


def _bubble(point: CurvePoint) -> float | None:
    """The share of a step that stages wait, the mean over stages."""
    shares = [stage.bubble_share.value for stage in point.stages]
    return sum(shares) / len(shares) if shares else None
