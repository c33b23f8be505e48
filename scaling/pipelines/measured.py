"""The measures of a pipeline that its forecast is fitted to: work as CPU seconds, waiting and exchange apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from saman.scaling.analysis.points import CurvePoint
from saman.scaling.analysis.stages import StageMeans

_UNDISTURBED = 0.9  # CPU seconds ÷ wall seconds of the passes


@dataclass(frozen=True)
class PipelineShape:
    """A pipeline and its place: what a forecast needs to know about it. ``examples`` are those of a replica's step."""

    stages: int
    replicas: int
    nodes: int
    micro_batches: int
    examples: float

    @property
    def ranks(self) -> int:
        """Ranks of all replicas."""
        return self.stages * self.replicas

    @property
    def ranks_per_node(self) -> int:
        """Ranks on the fullest node."""
        return -(-self.ranks // self.nodes)

    @property
    def size(self) -> float:
        """Examples in a micro-batch."""
        return self.examples / self.micro_batches


@dataclass(frozen=True)
class NodeCores:
    """The cores of a node, and those of each rank; ``count`` is None where the node did not report it."""

    count: int | None
    per_rank: int

    def oversubscription(self, ranks_per_node: int) -> float:
        """Cores that the pipeline ranks of a measured node want ÷ cores that it has, at least 1."""
        return max(1.0, ranks_per_node * self.per_rank / self.count) if self.count else 1.0

    def busy(self, ranks_per_node: int) -> float:
        """Cores at work on a node while all its pipeline ranks are."""
        wanted = float(ranks_per_node * self.per_rank)
        return min(wanted, float(self.count)) if self.count else wanted


@dataclass(frozen=True)
class MeasuredPipeline:
    """A measured cell; times in seconds per step, means over windows: they add up to the sustained step.

    Attributes:
        batch: Examples of all replicas in a full step.
        filled: The mean share of a full batch; the last batch of an epoch is short.
        work_seconds: Of each stage: CPU seconds of both passes; wall seconds where CPU seconds were not recorded and
            ranks had cores of their own; None where neither tells the work.
        cores_at_work: CPU seconds ÷ wall seconds of the passes of ranks with cores of their own.
        planned: The partitioner's busy seconds of each stage; empty for cuts given by hand.
    """

    shape: PipelineShape
    cores: NodeCores
    batch: float
    filled: float
    step_seconds: float
    work_seconds: tuple[float, ...] | None
    cores_at_work: float | None
    transfer_seconds: tuple[float, ...]
    update_seconds: float
    exchange_seconds: float
    input_wait_seconds: float
    planned: tuple[float, ...]

    @property
    def rate(self) -> float:
        """Samples per second of all replicas."""
        return self.shape.examples * self.shape.replicas / self.step_seconds

    @property
    def disturbed(self) -> bool:
        """Whether other programs had over a tenth of the time of ranks with a core of their own."""
        alone = self.cores.per_rank == 1 and self.cores_at_work is not None
        return alone and (self.cores_at_work or 0.0) < _UNDISTURBED

    @property
    def oversubscription(self) -> float:
        """Cores wanted ÷ cores of a node; above 1 ranks take turns."""
        return self.cores.oversubscription(self.shape.ranks_per_node)


def measured_pipeline(point: CurvePoint) -> MeasuredPipeline | None:
    """The measures of a point per stage; None where the telemetry lacks the times of a stage."""
    facts, stages = point.runs[0].facts, point.stages
    if not stages or len(stages) != facts.stage_count:
        return None
    replicas, means = point.ranks // facts.stage_count, [stage.means for stage in stages]
    examples = point.throughput.value * point.step_seconds.value
    shape = PipelineShape(facts.stage_count, replicas, point.nodes, facts.micro_batches, examples / replicas)
    shared = any(run.facts.cores_shared for run in point.runs)
    return MeasuredPipeline(
        shape=shape,
        cores=NodeCores(facts.node_cores, facts.cores_per_rank or 1),
        batch=float(facts.global_batch),
        filled=examples / facts.global_batch,
        step_seconds=point.step_seconds.value,
        work_seconds=_work(means, shared),
        cores_at_work=None if shared else _cores_at_work(means),
        transfer_seconds=tuple(mean.transfer for mean in means),
        update_seconds=float(np.mean([mean.update_cpu or 0.0 for mean in means])),
        exchange_seconds=float(np.mean([mean.exchange for mean in means])),
        input_wait_seconds=float(np.mean([mean.input_wait for mean in means])),
        planned=tuple(stage.planned_seconds for stage in stages if stage.planned_seconds is not None),
    )


def _work(means: Sequence[StageMeans], shared: bool) -> tuple[float, ...] | None:
    cpu = tuple(mean.pass_cpu for mean in means if mean.pass_cpu is not None)
    if len(cpu) == len(means):
        return cpu
    return None if shared else tuple(mean.busy for mean in means)


def _cores_at_work(means: Sequence[StageMeans]) -> float | None:
    ratios = [mean.pass_cpu / mean.passes for mean in means if mean.pass_cpu is not None and mean.passes]
    return float(np.median(ratios)) if ratios else None
