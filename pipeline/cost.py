"""Predicts a pipelined step: its time, each stage's time, bubble and memory, and the speed-up over one process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from saman.pipeline.chain import Chain, Link, PipelinePlan, StageCosts, stage_spans
from saman.pipeline.schedule import Action, bubble_bound
from saman.pipeline.simulate import play


@dataclass(frozen=True, kw_only=True)
class StagePrediction:
    """The prediction for a stage.

    Attributes:
        begin: Position of the first layer.
        end: Position behind the last layer.
        forward_seconds: Computation of the forward pass, per micro-batch.
        backward_seconds: Computation of the backward pass, per micro-batch.
        transfer_seconds: Receiving activations and gradients, per micro-batch.
        bubble_share: The share of the step in which the stage waits for its neighbours.
        memory_bytes: Memory above an idle process.
    """

    begin: int
    end: int
    forward_seconds: float
    backward_seconds: float
    transfer_seconds: float
    bubble_share: float
    memory_bytes: int

    @property
    def seconds(self) -> float:
        """The predicted cost of a stage: busy seconds per micro-batch."""
        return self.forward_seconds + self.backward_seconds + self.transfer_seconds


@dataclass(frozen=True)
class StepPrediction:
    """The prediction for a pipelined step.

    Attributes:
        stages: The prediction for each stage.
        micro_batches: Micro-batches per step and replica.
        step_seconds: The time of the step.
        speedup: The speed-up over one process that runs the same micro-batches in turn.
    """

    stages: tuple[StagePrediction, ...]
    micro_batches: int
    step_seconds: float
    speedup: float

    @property
    def bound(self) -> float:
        """The cost as a speed-up without transfers and with even stages: an upper bound."""
        return bubble_bound(self.micro_batches, len(self.stages))

    @property
    def bubble_share(self) -> float:
        """The share of waiting in the predicted cost of all stages."""
        return sum(stage.bubble_share for stage in self.stages) / len(self.stages)


def predict_pipelined_step(chain: Chain, cuts: Sequence[int], plan: PipelinePlan, link: Link) -> StepPrediction:
    """The cost of a pipelined step, by simulating its schedule.

    Each stage receives before it computes, and is busy meanwhile. The single process of the speed-up neither sends
    nor recomputes.

    Args:
        chain: The measured layers.
        cuts: Positions of the layers before which the model is cut.
        plan: How the stages run.
        link: Latency and bandwidth between stages.
    """
    costs = StageCosts(chain, plan, link)
    spans = stage_spans(cuts, len(chain.layers))

    def seconds(stage: int, action: Action) -> float:
        begin, end = spans[stage]
        if action.kind == "forward":
            return costs.forward_seconds(begin, end) + costs.receive_forward_seconds(begin)
        return costs.backward_seconds(begin, end) + costs.receive_backward_seconds(end)

    timeline = play(plan.order, plan.stages, plan.micro_batches, seconds)
    stages = tuple(
        StagePrediction(
            begin=begin,
            end=end,
            forward_seconds=costs.forward_seconds(begin, end),
            backward_seconds=costs.backward_seconds(begin, end),
            transfer_seconds=costs.receive_forward_seconds(begin) + costs.receive_backward_seconds(end),
            bubble_share=timeline.bubble_share(stage),
            memory_bytes=costs.memory_bytes(stage, begin, end),
        )
        for stage, (begin, end) in enumerate(spans)
    )
    alone = plan.micro_batches * sum(layer.forward_seconds + layer.backward_seconds for layer in chain.layers)
    return StepPrediction(
        stages, plan.micro_batches, timeline.seconds, alone / timeline.seconds if timeline.seconds else 1
    )


def speedup(
    stage_seconds: Sequence[float], micro_batches: int, order: str = "1f1b", forward_share: float = 1 / 3
) -> float:
    """Return the speed-up over one process, without transfers.

    Args:
        stage_seconds: Busy seconds of each stage per micro-batch.
        micro_batches: Micro-batches per step.
        order: A key of ``ORDERS``.
        forward_share: The forward pass's share of both passes; a third if backward costs twice forward.

    Example:
        >>> speedup([3.0, 3.0], micro_batches=4)  # 4 · 2 / (4 + 2 − 1)
        1.6
    """

    def seconds(stage: int, action: Action) -> float:
        share = forward_share if action.kind == "forward" else 1 - forward_share
        return stage_seconds[stage] * share

    timeline = play(order, len(stage_seconds), micro_batches, seconds)
    return micro_batches * sum(stage_seconds) / timeline.seconds


def recomputation(micro_batches: int, spared: int = 0, backward_over_forward: float = 2.0) -> float:
    """Return the cost of recomputed activations: the factor by which they lengthen both passes.

    (m·(2f + b) − spared·f) / (m·(f + b)); 4/3 if all are recomputed and b = 2f (Chen et al. 2016, §4.2).

    Args:
        micro_batches: m, micro-batches per step.
        spared: Micro-batches per step with kept activations.
        backward_over_forward: b ÷ f.
    """
    both = 1 + backward_over_forward
    return (micro_batches * (both + 1) - spared) / (micro_batches * both)
