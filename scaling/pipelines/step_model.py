"""A model of a pipelined step, fitted to the measured cells of a grid of stages × replicas × micro-batches.

    step = passes  +  exchange of the replicas  +  update  +  input wait

Passes: the schedule, simulated with the CPU seconds of each stage on the cores of its node, where ranks take turns
(``pipeline.sharing``). CPU seconds of a stage = (per pass · micro-batches + its share · per example · examples) ·
(1 + contention · more busy cores): a busy neighbour slows a core's memory. The terms of the other parts are in
``terms``. No factor corrects the sum; ``misfit`` tells what it misses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from saman.pipeline.sharing import SharedStep, StageWork, cores_of, play_shared
from saman.scaling.pipelines.measured import MeasuredPipeline, NodeCores, PipelineShape
from saman.scaling.pipelines.terms import EXCHANGE, INPUT_WAIT, UPDATE, fit_terms, sum_terms

Array = NDArray[np.float64]
_MOST_SIMULATED = 64  # ranks that share the cores of a node; further replicas repeat the first


@dataclass(frozen=True)
class PredictedStep:
    """A predicted step, in seconds.

    Attributes:
        bubble_share: The share of the passes in which a stage waits, the mean over stages.
        imbalance_seconds: What uneven stages cost over even stages of the same work.
        transfer_seconds: What sending activations and gradients costs.
    """

    seconds: float
    bubble_share: float
    imbalance_seconds: float
    transfer_seconds: float
    exchange_seconds: float


@dataclass(frozen=True)
class StepModel:
    """The fitted parameters of a case.

    Attributes:
        per_pass: CPU seconds of a stage per micro-batch.
        per_example: CPU seconds of all stages per example.
        contention: Growth of CPU seconds per further busy core of a node.
        shares: Of the work on examples, for each number of stages.
        cores_at_work: Cores that a rank's passes keep busy.
        transfer: Seconds per message.
        update: CPU seconds of a stage's update, by term.
        exchange: Seconds by term.
        input_wait: Seconds by term.
    """

    order: str
    forward_share: float
    per_pass: float
    per_example: float
    contention: float
    shares: Mapping[int, tuple[float, ...]]
    cores_at_work: float
    transfer: float
    update: Mapping[str, float]
    exchange: Mapping[str, float]
    input_wait: Mapping[str, float]
    cores: NodeCores
    cells: tuple[MeasuredPipeline, ...]

    @property
    def filled(self) -> float:
        """The mean share of a full batch in a step."""
        return float(np.median([cell.filled for cell in self.cells]))

    def with_shares(self, shares: Sequence[float]) -> StepModel:
        """The model with the shares of another number of stages."""
        return replace(self, shares={**self.shares, len(shares): tuple(share / sum(shares) for share in shares)})

    def predict(self, shape: PipelineShape) -> PredictedStep:
        """Predict a step."""
        shares = self.shares.get(shape.stages) or (1 / shape.stages,) * shape.stages
        even = (1 / shape.stages,) * shape.stages
        whole = self._passes(shape, shares, self.transfer)
        without_transfer = self._passes(shape, shares, 0.0).seconds
        exchange = sum_terms(EXCHANGE, self.exchange, shape, self.cores)
        turns = self.cores.oversubscription(shape.ranks_per_node)
        taken = min(1.0, self.cores_at_work)  # below 1 where other programs use the cores, too
        update = sum_terms(UPDATE, self.update, shape, self.cores) * turns / taken
        waiting = sum_terms(INPUT_WAIT, self.input_wait, shape, self.cores)
        return PredictedStep(
            seconds=whole.seconds + exchange + update + waiting,
            bubble_share=whole.bubble_share,
            imbalance_seconds=max(0.0, without_transfer - self._passes(shape, even, 0.0).seconds),
            transfer_seconds=max(0.0, whole.seconds - without_transfer),
            exchange_seconds=exchange,
        )

    def rate(self, shape: PipelineShape) -> float:
        """Predict samples per second of all replicas."""
        return shape.examples * shape.replicas / self.predict(shape).seconds

    def _passes(self, shape: PipelineShape, shares: Sequence[float], transfer: float) -> SharedStep:
        crowd = 1.0 + self.contention * (self.cores.busy(shape.ranks_per_node) - self.cores.per_rank)
        work = []
        for stage, share in enumerate(shares):
            cpu = (self.per_pass + self.per_example * share * shape.size) * crowd
            seconds = cpu / self.cores_at_work
            # activations go to the next stage, gradients to the stage before
            onward, back = transfer * (stage < shape.stages - 1), transfer * (stage > 0)
            work.append(StageWork(seconds * self.forward_share + onward, seconds * (1 - self.forward_share) + back))
        return play_shared(self.order, work, shape.micro_batches, self._cores(shape))

    def _cores(self, shape: PipelineShape) -> list[tuple[int, ...]]:
        """The cores of the ranks to simulate: of a single replica where no rank shares a core."""
        if self.cores.count is None or self.cores.oversubscription(shape.ranks_per_node) <= 1:
            return [()] * shape.stages
        ranks = max(shape.stages, min(shape.ranks_per_node, _MOST_SIMULATED) // shape.stages * shape.stages)
        return [cores_of(rank, self.cores.per_rank, self.cores.count) for rank in range(ranks)]


def fit_case(cells: Sequence[MeasuredPipeline], order: str, recompute: bool) -> StepModel:
    """Fit the model to cells whose work is known.

    Args:
        cells: Measured pipelines that differ only in stages, replicas and micro-batches; at least one pipeline.
        order: Of the schedule.
        recompute: Whether activations are recomputed.
    """
    per_pass, per_example, contention = _fit_work(cells)
    messages = [
        float(np.mean(cell.transfer_seconds)) / _messages_per_stage(cell.shape)
        for cell in cells
        if cell.shape.stages > 1
    ]
    alone = [cell.cores_at_work for cell in cells if cell.cores_at_work]
    return StepModel(
        order=order,
        # backward costs twice forward, and recomputation forward once more
        forward_share=1 / 4 if recompute else 1 / 3,
        per_pass=per_pass,
        per_example=per_example,
        contention=contention,
        shares=_shares(cells, per_pass),
        cores_at_work=float(np.median(alone)) if alone else 1.0,
        transfer=min(messages, default=0.0),  # the least is closest to a transfer that nobody delays
        update=fit_terms(UPDATE, cells, [cell.update_seconds for cell in cells]),
        exchange=fit_terms(EXCHANGE, cells, [cell.exchange_seconds for cell in cells]),
        input_wait=fit_terms(INPUT_WAIT, cells, [cell.input_wait_seconds for cell in cells]),
        cores=cells[0].cores,
        cells=tuple(cells),
    )


def misfit(model: StepModel) -> float:
    """The largest |measured ÷ modelled − 1| of the fitted cells, on the larger side of the ratio."""
    return max(abs(log_error(model, cell)) for cell in model.cells)


def log_error(model: StepModel, cell: MeasuredPipeline) -> float:
    """ln(measured ÷ modelled) of a cell's rate."""
    return float(np.log(cell.rate / model.rate(cell.shape)))


def _messages_per_stage(shape: PipelineShape) -> float:
    """Messages that a stage sends per step, the mean over stages."""
    return 2 * shape.micro_batches * (shape.stages - 1) / shape.stages


def _fit_work(cells: Sequence[MeasuredPipeline]) -> tuple[float, float, float]:
    """Per pass, per example, and contention: non-negative least squares of relative errors of the work of all stages.

    A cost per pass needs micro-batches of different sizes, contention different numbers of busy cores.
    """
    from scipy.optimize import nnls

    work = np.array([max(sum(cell.work_seconds or ()), 1e-12) for cell in cells])
    passes = np.array([float(cell.shape.stages * cell.shape.micro_batches) for cell in cells])
    examples = np.array([cell.shape.examples for cell in cells])
    busy = np.array([cell.cores.busy(cell.shape.ranks_per_node) - cell.cores.per_rank for cell in cells])
    columns = {"example": examples}
    if np.ptp(passes / examples) > 1e-3 * (passes / examples).max():
        columns["pass"] = passes
    if np.ptp(busy) > 0 and len(cells) > len(columns):
        columns["crowd"] = examples * busy
    found, _ = nnls(np.stack([column / work for column in columns.values()], axis=1), np.ones(len(work)))
    named = dict(zip(columns, map(float, found), strict=True))
    per_example = named["example"]
    return named.get("pass", 0.0), per_example, named.get("crowd", 0.0) / per_example if per_example else 0.0


def _shares(cells: Sequence[MeasuredPipeline], per_pass: float) -> dict[int, tuple[float, ...]]:
    """The share of each stage in the work on examples, by number of stages."""
    found: dict[int, list[Array]] = {}
    for cell in cells:
        own = np.maximum(np.array(cell.work_seconds) - per_pass * cell.shape.micro_batches, 1e-12)
        found.setdefault(cell.shape.stages, []).append(own / own.sum())
    return {stages: tuple(map(float, np.mean(shares, axis=0))) for stages, shares in found.items()}
