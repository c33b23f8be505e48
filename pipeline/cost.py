"""Predicts a pipelined step: its time, each stage's time, bubble and memory, and the speed-up over one process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from saman.pipeline.chain import Chain, Link, PipelinePlan, StageCosts, bounds
from saman.pipeline.schedule import Action, bubble_bound
from saman.pipeline.simulate import play


@dataclass(frozen=True)
class StagePrediction:
    """One stage: its layers [begin, end), seconds per micro-batch, share of the step spent waiting, bytes held."""

    begin: int
    end: int
    forward_seconds: float
    backward_seconds: float
    transfer_seconds: float
    bubble_share: float
    memory_bytes: int

    @property
    def seconds(self) -> float:
        """Busy per micro-batch."""
        return self.forward_seconds + self.backward_seconds + self.transfer_seconds


@dataclass(frozen=True)
class StepPrediction:
    """A pipelined step; ``speedup`` is over one process that runs the same micro-batches one after another."""

    stages: tuple[StagePrediction, ...]
    micro_batches: int
    step_seconds: float
    speedup: float

    @property
    def bound(self) -> float:
        """The speed-up of even stages with free transfers."""
        return bubble_bound(self.micro_batches, len(self.stages))

    @property
    def bubble_share(self) -> float:
        """The share of all stages' time spent waiting."""
        return sum(stage.bubble_share for stage in self.stages) / len(self.stages)


def predict(chain: Chain, cuts: Sequence[int], plan: PipelinePlan, link: Link) -> StepPrediction:
    """What a split gives, by playing its schedule.

    Each stage pays for receiving, before it computes. One process neither sends nor recomputes.
    """
    costs = StageCosts(chain, plan, link)
    spans = bounds(cuts, len(chain.layers))

    def seconds(stage: int, action: Action) -> float:
        begin, end = spans[stage]
        if action.kind == "forward":
            return costs.forward_seconds(begin, end) + costs.receive_forward_seconds(begin)
        return costs.backward_seconds(begin, end) + costs.receive_backward_seconds(end)

    timeline = play(plan.order, plan.stages, plan.micro_batches, seconds)
    stages = tuple(
        StagePrediction(
            begin,
            end,
            costs.forward_seconds(begin, end),
            costs.backward_seconds(begin, end),
            costs.receive_forward_seconds(begin) + costs.receive_backward_seconds(end),
            timeline.bubble_share(stage),
            costs.memory_bytes(stage, begin, end),
        )
        for stage, (begin, end) in enumerate(spans)
    )
    alone = plan.micro_batches * sum(one.forward_seconds + one.backward_seconds for one in chain.layers)
    return StepPrediction(
        stages, plan.micro_batches, timeline.seconds, alone / timeline.seconds if timeline.seconds else 1
    )


def speedup(
    stage_seconds: Sequence[float], micro_batches: int, order: str = "1f1b", forward_share: float = 1 / 3
) -> float:
    """The speed-up over one process of stages that are busy for ``stage_seconds`` per micro-batch.

    ``forward_share`` is the forward pass's part of the two passes: a third where backward costs twice forward.
    """

    def seconds(stage: int, action: Action) -> float:
        share = forward_share if action.kind == "forward" else 1 - forward_share
        return stage_seconds[stage] * share

    timeline = play(order, len(stage_seconds), micro_batches, seconds)
    return micro_batches * sum(stage_seconds) / timeline.seconds


def recomputation(micro_batches: int, spared: int = 0, backward_over_forward: float = 2.0) -> float:
    """How much longer both passes take when activations are recomputed, but for ``spared`` micro-batches of a step.

    (m·(2f + b) − spared·f) / (m·(f + b)); 4/3 where all are recomputed and b = 2f (Chen et al. 2016, §4.2).
    """
    both = 1 + backward_over_forward
    return (micro_batches * (both + 1) - spared) / (micro_batches * both)
