"""Groups curves of pipelines into cases: what differs in stages, micro-batches and ranks alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import log2

from saman.scaling.analysis.curves import Curve
from saman.scaling.analysis.points import CurvePoint
from saman.scaling.pipelines.step_model import MeasuredPipeline, measured


@dataclass(frozen=True)
class Case:
    """Curves of pipelines that differ in stages and micro-batches alone, with their points."""

    label: str
    points: tuple[tuple[Curve, CurvePoint, MeasuredPipeline], ...]

    @property
    def stages(self) -> list[int]:
        """The numbers of stages that were measured."""
        return sorted({seen.stages for _, _, seen in self.points})

    def of(self, stages: int) -> list[tuple[Curve, CurvePoint, MeasuredPipeline]]:
        """What was measured with so many stages."""
        return [one for one in self.points if one[2].stages == stages]


def cases_of(curves: Sequence[Curve]) -> list[Case]:
    """The cases among curves; those whose stages were not told apart are left out."""
    cases: dict[str, list[tuple[Curve, CurvePoint, MeasuredPipeline]]] = {}
    for curve in curves:
        seen = [(curve, point, one) for point in curve.points if (one := measured(point)) is not None]
        if curve.group.strategy == "pipeline" and seen:
            cases.setdefault(_key(curve), []).extend(seen)
    return [Case(_label(points[0][0]), tuple(points)) for points in cases.values()]


def _key(curve: Curve) -> str:
    """Everything that must be alike in the curves that one model is made from."""
    apart = ("train.pipeline.stages", "train.pipeline.cuts", "train.micro_batches")
    same = {key: value for key, value in curve.group.settings.items() if key not in apart}
    run = curve.group.runs[0]
    batch = run.batch_per_rank or run.global_batch
    return str((sorted((key, str(value)) for key, value in same.items()), curve.group.scaling, batch))


def _label(curve: Curve) -> str:
    return re.sub(r" (stages|micro batches) \d+\b", "", curve.label)


def batch_of(case: Case, ranks: int) -> float:
    """Examples of so many ranks in a step."""
    run = case.points[0][1].runs[0]
    return float(run.batch_per_rank * ranks if run.batch_per_rank else run.global_batch)


def base_of(case: Case, micro_batches: int) -> tuple[float | None, str | None]:
    """Throughput of the base case with the nearest number of micro-batches, and its name."""
    based = [(curve, point) for curve, point, _ in case.points if point.speedup is not None]
    if not based:
        return None, None
    curve, point = min(based, key=lambda one: abs(log2(one[1].runs[0].micro_batches / micro_batches)))
    assert point.speedup is not None
    return point.throughput.value / point.speedup.value, curve.base


def throughput_of(case: Case, stages: int, replicas: int, micro_batches: int, batch: float) -> float | None:
    """Samples per second where that was measured."""
    asked = (replicas, micro_batches, batch)
    mine = [p for _, p, seen in case.of(stages) if (seen.replicas, seen.micro_batches, seen.batch) == asked]
    return mine[0].throughput.value if mine else None
