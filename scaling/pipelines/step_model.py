"""A model of a pipelined step: busy time per stage, the schedule's bubble, the exchange between replicas, input wait.

    step = factor · (schedule simulated with the busy time of each stage  +  exchange(replicas)  +  input wait)

The factor is the median of measured ÷ modelled over the fitted points. Busy time is
per pass · micro-batches + per example · examples, fitted to measured points; if all micro-batches had the same size,
busy time goes with the examples. The exchange is a constant plus the hierarchical allreduce's α and β.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from saman.pipeline.cost import speedup
from saman.scaling.analysis.points import CurvePoint
from saman.scaling.models.communication import HIERARCHICAL, exchange_in_steps
from saman.scaling.models.laws import RankCounts, ScalingPoint, rank_counts

Array = NDArray[np.float64]


@dataclass(frozen=True)
class MeasuredPipeline:
    """A measured point of a pipeline; times in seconds per step.

    Attributes:
        examples: Of a replica in a step, on average.
        batch: Examples of all replicas in a full step.
        filled: The mean share of a full batch; the last batch of an epoch is short.
        work_seconds: Busy and transfer seconds of each stage.
    """

    stages: int
    replicas: int
    nodes: int
    micro_batches: int
    examples: float
    batch: float
    filled: float
    step_seconds: float
    work_seconds: tuple[float, ...]
    exchange_seconds: float
    input_wait_seconds: float

    @property
    def size(self) -> float:
        """Examples in a micro-batch of a full batch."""
        return self.batch / self.replicas / self.micro_batches


def measured_pipeline(point: CurvePoint) -> MeasuredPipeline | None:
    """The measures of a point per stage; None where the telemetry lacks the times of a stage."""
    run, stages = point.runs[0].facts, point.stages
    if not stages or len(stages) != run.stage_count:
        return None
    replicas = point.ranks // run.stage_count
    examples = point.throughput.value * point.step_seconds.value
    return MeasuredPipeline(
        stages=run.stage_count,
        replicas=replicas,
        nodes=point.nodes,
        micro_batches=run.micro_batches,
        examples=examples / replicas,
        batch=float(run.global_batch),
        filled=examples / run.global_batch,
        step_seconds=point.step_seconds.value,
        work_seconds=tuple(stage.busy.value + stage.transfer.value for stage in stages),
        exchange_seconds=float(np.mean([stage.exchange.value for stage in stages])),
        input_wait_seconds=float(np.mean([stage.input_wait.value for stage in stages])),
    )


@dataclass(frozen=True)
class StageWork:
    """Busy seconds of a stage in a step: ``per_pass`` · micro-batches + ``per_example`` · examples."""

    per_pass: float
    per_example: float

    def seconds(self, micro_batches: int, examples: float) -> float:
        """Busy seconds per step."""
        return self.per_pass * micro_batches + self.per_example * examples


@dataclass(frozen=True)
class ReplicaExchange:
    """The cost of the gradient sum over a stage's replicas: a constant and the hierarchical allreduce's parameters.

    ``known`` is false where no measured run had several replicas.
    """

    constant: float
    parameters: Mapping[str, float]
    known: bool

    def seconds(self, replicas: int, nodes: int) -> float:
        """Seconds per step; the replicas of a stage are spread over as many nodes as possible."""
        at = rank_counts([ScalingPoint(replicas, 0.0, min(replicas, nodes))])
        return self.constant + sum(float(_coefficient(at, name)[0]) * value for name, value in self.parameters.items())


@dataclass(frozen=True)
class StepModel:
    """The model of a number of stages.

    Attributes:
        factor: Median of measured ÷ modelled over ``points``.
        misfit: Largest |ln(measured ÷ modelled ÷ factor)|.
        sizes: Of the measured micro-batches, in examples.
    """

    stages: int
    order: str
    forward_share: float
    work: tuple[StageWork, ...]
    exchange: ReplicaExchange
    input_wait_per_example: float
    factor: float
    misfit: float
    sizes: tuple[float, ...]
    points: tuple[MeasuredPipeline, ...]

    @property
    def filled(self) -> float:
        """The mean share of a full batch in a step."""
        return float(np.median([point.filled for point in self.points]))

    def seconds(self, micro_batches: int, examples: float, replicas: int, nodes: int) -> float:
        """Predict the seconds of an optimiser step.

        Args:
            micro_batches: Micro-batches per step and replica.
            examples: Examples per step and replica.
            replicas: Number of replicas.
            nodes: Number of nodes.
        """
        each = self._seconds_per_micro_batch(micro_batches, examples)
        passes = micro_batches * sum(each) / speedup(each, micro_batches, self.order, self.forward_share)
        wait = self.input_wait_per_example * examples
        return self.factor * (passes + self.exchange.seconds(replicas, nodes) + wait)

    def bubble_share(self, micro_batches: int, examples: float, replicas: int, nodes: int) -> float:
        """Predict the share of a step that a stage waits for other stages: the mean over stages, between 0 and 1.

        The arguments are those of ``seconds``.
        """
        each = self._seconds_per_micro_batch(micro_batches, examples)
        ratio = speedup(each, micro_batches, self.order, self.forward_share)
        waiting = micro_batches * sum(each) * (1 / ratio - 1 / len(each))
        return self.factor * waiting / self.seconds(micro_batches, examples, replicas, nodes)

    def _seconds_per_micro_batch(self, micro_batches: int, examples: float) -> list[float]:
        return [work.seconds(micro_batches, examples) / micro_batches for work in self.work]


def step_model(
    points: Sequence[MeasuredPipeline], order: str, recompute: bool, others: Sequence[MeasuredPipeline] = ()
) -> StepModel | None:
    """Fit the model.

    Args:
        points: Measured pipelines of the same number of stages.
        order: Of the schedule.
        recompute: Whether activations are recomputed.
        others: Measured pipelines of other numbers of stages; they serve the exchange only.

    Returns:
        The model; None without points.
    """
    if not points:
        return None
    stages = points[0].stages
    work = tuple(_work(points, stage) for stage in range(stages))
    wait = float(np.median([point.input_wait_seconds / point.examples for point in points]))
    sizes = tuple(sorted({point.size for point in points}))
    exchange = _exchange(points, others)
    # backward costs twice forward, and recomputation forward once more
    share = 1 / 4 if recompute else 1 / 3
    bare = StepModel(
        stages=stages,
        order=order,
        forward_share=share,
        work=work,
        exchange=exchange,
        input_wait_per_example=wait,
        factor=1.0,
        misfit=0.0,
        sizes=sizes,
        points=tuple(points),
    )
    ratios = np.array([point.step_seconds / _modelled(bare, point) for point in points])
    factor = float(np.exp(np.median(np.log(ratios))))
    misfit = float(np.max(np.abs(np.log(ratios / factor))))
    return replace(bare, factor=factor, misfit=misfit)


def _modelled(model: StepModel, point: MeasuredPipeline) -> float:
    return model.seconds(point.micro_batches, point.examples, point.replicas, point.nodes)


def _work(points: Sequence[MeasuredPipeline], stage: int) -> StageWork:
    """Non-negative least squares of relative errors."""
    seconds = np.array([max(point.work_seconds[stage], 1e-12) for point in points])
    passes = np.array([float(point.micro_batches) for point in points])
    examples = np.array([point.examples for point in points])
    if len({point.size for point in points}) == 1:
        return StageWork(0.0, float(np.median(seconds / examples)))
    found, _ = nnls(np.stack([passes / seconds, examples / seconds], axis=1), np.ones(len(seconds)))
    return StageWork(float(found[0]), float(found[1]))


def _exchange(points: Sequence[MeasuredPipeline], others: Sequence[MeasuredPipeline]) -> ReplicaExchange:
    """Fitted to points with several replicas; without any, to those of other numbers of stages, rescaled."""
    alone = [point.exchange_seconds for point in points if point.replicas == 1]
    constant = float(np.median(alone)) if alone else 0.0
    summed = [(point, point.exchange_seconds - constant) for point in points if point.replicas > 1]
    if not summed:
        base = [point.exchange_seconds for point in others if point.replicas == 1]
        start = float(np.median(base)) if base else 0.0
        # a stage exchanges its own gradients only: the fewer stages, the more
        rescaled = [(p, (p.exchange_seconds - start) * p.stages / points[0].stages) for p in others if p.replicas > 1]
        summed = [(point, max(value, 0.0)) for point, value in rescaled]
    if not summed:
        return ReplicaExchange(constant, {}, False)
    at = rank_counts([ScalingPoint(point.replicas, 0.0, min(point.replicas, point.nodes)) for point, _ in summed])
    names = [parameter.name for parameter in HIERARCHICAL.parameters(at) if parameter.name != "hidden"]
    found, _ = nnls(
        np.stack([_coefficient(at, name) for name in names], axis=1), np.array([value for _, value in summed])
    )
    return ReplicaExchange(constant, {name: float(value) for name, value in zip(names, found, strict=True)}, True)


def _coefficient(at: RankCounts, name: str) -> Array:
    """Seconds of an exchange per unit of a parameter of the hierarchical allreduce."""
    return exchange_in_steps(at, {name: 1.0}, hierarchical=True)
