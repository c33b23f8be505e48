"""Groups curves of pipelines into cases: pipelines that differ only in stages, micro-batches and ranks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import log2

from saman.scaling.analysis.baselines import Baseline
from saman.scaling.analysis.curves import Curve
from saman.scaling.analysis.points import CurvePoint
from saman.scaling.pipelines.measured import MeasuredPipeline, measured_pipeline


@dataclass(frozen=True)
class CasePoint:
    """A point of a curve of pipelines with its measures per stage."""

    curve: Curve
    point: CurvePoint
    measured: MeasuredPipeline


@dataclass(frozen=True)
class Case:
    """Points of pipelines that differ only in stages, micro-batches and ranks."""

    label: str
    points: tuple[CasePoint, ...]

    @property
    def key(self) -> str:
        """Everything that the pipelines of the case share: settings, kind of scaling, batch."""
        return _key(self.points[0].curve)

    @property
    def stages(self) -> list[int]:
        """The measured numbers of stages, in order."""
        return sorted({entry.measured.shape.stages for entry in self.points})

    @property
    def cells(self) -> list[MeasuredPipeline]:
        """The measured pipelines."""
        return [entry.measured for entry in self.points]

    def global_batch(self, ranks: int) -> float:
        """Examples of all ranks in a step."""
        facts = self.points[0].point.runs[0].facts
        return float(facts.batch_per_rank * ranks if facts.batch_per_rank else facts.global_batch)

    def nearest_baseline(self, micro_batches: int) -> Baseline | None:
        """The baseline of the curve with the nearest number of micro-batches."""
        based = [entry for entry in self.points if entry.curve.baseline is not None]
        if not based:
            return None
        return min(
            based, key=lambda entry: abs(log2(entry.measured.shape.micro_batches / micro_batches))
        ).curve.baseline

    def measured_throughput(self, stages: int, replicas: int, micro_batches: int, batch: float) -> float | None:
        """Look up the measured throughput of a pipeline.

        Args:
            stages: Number of stages.
            replicas: Number of replicas.
            micro_batches: Micro-batches per step and replica.
            batch: Global batch size.

        Returns:
            Samples per second, the median over runs; ``None`` if no run had this shape.
        """
        wanted = (stages, replicas, micro_batches, batch)
        for entry in self.points:
            shape = entry.measured.shape
            if (shape.stages, shape.replicas, shape.micro_batches, entry.measured.batch) == wanted:
                return entry.point.throughput.value
        return None


def cases_of(curves: Sequence[Curve]) -> list[Case]:
    """The cases among curves; curves without times per stage in their telemetry are left out."""
    cases: dict[str, list[CasePoint]] = {}
    for curve in curves:
        points = [
            CasePoint(curve, point, pipeline)
            for point in curve.points
            if (pipeline := measured_pipeline(point)) is not None
        ]
        if curve.group.strategy == "pipeline" and points:
            cases.setdefault(_key(curve), []).extend(points)
    return [Case(_label(points[0].curve), tuple(points)) for points in cases.values()]


def _key(curve: Curve) -> str:
    """Everything that the curves of a case share."""
    varying = ("train.pipeline.stages", "train.pipeline.cuts", "train.micro_batches")
    facts = curve.group.runs[0].facts
    shared = {key: value for key, value in facts.identity.items() if key not in varying}
    batch = facts.batch_per_rank or facts.global_batch
    return str((sorted((key, str(value)) for key, value in shared.items()), curve.group.scaling, batch))


def _label(curve: Curve) -> str:
    return re.sub(r" (stages \d+|micro batches \d+|own cores|shared cores)\b", "", curve.label)
