"""A pipelined step as a model: each stage's busy time per micro-batch, the schedule's bubble, the exchange of replicas.

    step = schedule played with what each stage is busy per micro-batch  +  exchange(replicas)  +  waiting for input

all of it times one factor, the median of measured ÷ modelled over the points it was made from. Busy time is
per pass · micro-batches + per example · examples, fitted to what was measured; where all micro-batches had one size it
is taken to go with the examples. The exchange is a constant and the hierarchical allreduce's α and β.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from saman.pipeline.cost import speedup
from saman.scaling.analysis.points import CurvePoint
from saman.scaling.models.communication import HIERARCHICAL, exchange_in_steps
from saman.scaling.models.laws import RankCounts, ScalingPoint, shape

Array = NDArray[np.float64]


@dataclass(frozen=True)
class MeasuredPipeline:
    """A measured point of a pipeline: seconds per step, and per stage.

    ``examples`` are those of one replica in a step on average, ``filled`` their share of a whole ``batch``: the last
    batch of an epoch is short.
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
        """Examples in a micro-batch of a whole batch."""
        return self.batch / self.replicas / self.micro_batches


def measured(point: CurvePoint) -> MeasuredPipeline | None:
    """What a point of a curve of pipelines shows; none where its stages were not told apart."""
    run, stages = point.runs[0], point.stages
    if not stages or len(stages) != run.stage_count:
        return None
    replicas = point.ranks // run.stage_count
    examples = point.throughput.value * point.step.value
    return MeasuredPipeline(
        run.stage_count,
        replicas,
        point.nodes,
        run.micro_batches,
        examples / replicas,
        float(run.global_batch),
        examples / run.global_batch,
        point.step.value,
        tuple(one.busy.value + one.transfer.value for one in stages),
        float(np.mean([one.exchange.value for one in stages])),
        float(np.mean([one.input_wait.value for one in stages])),
    )


@dataclass(frozen=True)
class StageWork:
    """Seconds that a stage is busy in a step: ``per_pass`` · micro-batches + ``per_example`` · examples."""

    per_pass: float
    per_example: float

    def seconds(self, micro_batches: int, examples: float) -> float:
        """Per step."""
        return self.per_pass * micro_batches + self.per_example * examples


@dataclass(frozen=True)
class ReplicaExchange:
    """Seconds to sum over the replicas of a stage: a constant, and the parameters of the hierarchical allreduce."""

    constant: float
    parameters: Mapping[str, float]
    known: bool

    def seconds(self, replicas: int, nodes: int) -> float:
        """Per step; replicas of a stage lie on as many nodes as they can."""
        at = shape([ScalingPoint(replicas, 0.0, min(replicas, nodes))])
        return self.constant + sum(float(_unit(at, name)[0]) * value for name, value in self.parameters.items())


@dataclass(frozen=True)
class StepModel:
    """The model of one number of stages. ``factor`` is measured ÷ modelled, ``misfit`` how far points lie apart."""

    stages: int
    order: str
    forward_share: float
    work: tuple[StageWork, ...]
    exchange: ReplicaExchange
    input_wait_per_example: float
    factor: float
    misfit: float
    sizes: tuple[float, ...]  # of the measured micro-batches, in examples
    points: tuple[MeasuredPipeline, ...]

    @property
    def filled(self) -> float:
        """The share of a whole batch that a step has on average."""
        return float(np.median([point.filled for point in self.points]))

    def seconds(self, micro_batches: int, examples: float, replicas: int, nodes: int) -> float:
        """Seconds of a step of ``replicas`` that each take ``examples`` in so many micro-batches."""
        each = self._each(micro_batches, examples)
        passes = micro_batches * sum(each) / speedup(each, micro_batches, self.order, self.forward_share)
        wait = self.input_wait_per_example * examples
        return self.factor * (passes + self.exchange.seconds(replicas, nodes) + wait)

    def bubble_share(self, micro_batches: int, examples: float, replicas: int, nodes: int) -> float:
        """The share of that step which stages wait for each other, the mean over stages."""
        each = self._each(micro_batches, examples)
        ratio = speedup(each, micro_batches, self.order, self.forward_share)
        waiting = micro_batches * sum(each) * (1 / ratio - 1 / len(each))
        return self.factor * waiting / self.seconds(micro_batches, examples, replicas, nodes)

    def _each(self, micro_batches: int, examples: float) -> list[float]:
        return [one.seconds(micro_batches, examples) / micro_batches for one in self.work]


def step_model(
    points: Sequence[MeasuredPipeline], order: str, recompute: bool, others: Sequence[MeasuredPipeline] = ()
) -> StepModel | None:
    """The model from points of one number of stages; ``others`` (of other numbers) help out with the exchange alone."""
    if not points:
        return None
    stages = points[0].stages
    work = tuple(_work(points, stage) for stage in range(stages))
    wait = float(np.median([point.input_wait_seconds / point.examples for point in points]))
    sizes = tuple(sorted({point.size for point in points}))
    exchange = _exchange(points, others)
    # backward costs twice forward, and forward once more where activations are computed again
    share = 1 / 4 if recompute else 1 / 3
    bare = StepModel(stages, order, share, work, exchange, wait, 1.0, 0.0, sizes, tuple(points))
    ratios = np.array([point.step_seconds / _modelled(bare, point) for point in points])
    factor = float(np.exp(np.median(np.log(ratios))))
    misfit = float(np.max(np.abs(np.log(ratios / factor))))
    return StepModel(stages, order, share, work, exchange, wait, factor, misfit, sizes, tuple(points))


def _modelled(model: StepModel, point: MeasuredPipeline) -> float:
    return model.seconds(point.micro_batches, point.examples, point.replicas, point.nodes)


def _work(points: Sequence[MeasuredPipeline], stage: int) -> StageWork:
    """Least squares of relative errors, with costs that are not negative."""
    seconds = np.array([max(point.work_seconds[stage], 1e-12) for point in points])
    passes = np.array([float(point.micro_batches) for point in points])
    examples = np.array([point.examples for point in points])
    if len({point.size for point in points}) == 1:
        return StageWork(0.0, float(np.median(seconds / examples)))
    found, _ = nnls(np.stack([passes / seconds, examples / seconds], axis=1), np.ones(len(seconds)))
    return StageWork(float(found[0]), float(found[1]))


def _exchange(points: Sequence[MeasuredPipeline], others: Sequence[MeasuredPipeline]) -> ReplicaExchange:
    """Fitted to the points with several replicas; without them to those of other stages, whose part is larger."""
    alone = [point.exchange_seconds for point in points if point.replicas == 1]
    constant = float(np.median(alone)) if alone else 0.0
    summed = [(point, point.exchange_seconds - constant) for point in points if point.replicas > 1]
    if not summed:
        base = [point.exchange_seconds for point in others if point.replicas == 1]
        start = float(np.median(base)) if base else 0.0
        # a stage exchanges its own gradients: the fewer stages, the larger its part
        rescaled = [(p, (p.exchange_seconds - start) * p.stages / points[0].stages) for p in others if p.replicas > 1]
        summed = [(point, max(value, 0.0)) for point, value in rescaled]
    if not summed:
        return ReplicaExchange(constant, {}, False)
    at = shape([ScalingPoint(point.replicas, 0.0, min(point.replicas, point.nodes)) for point, _ in summed])
    names = [one.name for one in HIERARCHICAL.parameters(at) if one.name != "hidden"]
    found, _ = nnls(np.stack([_unit(at, name) for name in names], axis=1), np.array([value for _, value in summed]))
    return ReplicaExchange(constant, {name: float(value) for name, value in zip(names, found, strict=True)}, True)


def _unit(at: RankCounts, name: str) -> Array:
    """What one second of a parameter of the hierarchical allreduce adds to an exchange."""
    return exchange_in_steps(at, {name: 1.0}, hierarchical=True)
