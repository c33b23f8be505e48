"""A model as a chain of measured layers, and the cost of a stage made of some of them.

The layers are in topological order. A cut before layer i sends every tensor made before i and used at i or later: a
skip connection that crosses several cuts travels, and is counted, at each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate


@dataclass(frozen=True)
class Layer:
    """The measured cost of a layer for a micro-batch.

    Attributes:
        name: The layer's name in the graph of the model.
        forward_seconds: Time of the forward pass.
        backward_seconds: Time of the backward pass.
        parameter_bytes: Bytes of the trainable variables.
        activation_bytes: Bytes kept from the forward pass to the backward pass.
    """

    name: str
    forward_seconds: float
    backward_seconds: float
    parameter_bytes: int
    activation_bytes: int


@dataclass(frozen=True)
class Chain:
    """Layers in topological order, and the messages of each possible cut.

    Attributes:
        layers: The layers.
        crossing_bytes: ``crossing_bytes[i]`` is what a cut before layer i sends forward per micro-batch.
        gradient_bytes: ``gradient_bytes[i]`` comes back over that cut; integers and masks have no gradient.
        uncuttable: The positions at which the model cannot be cut, each with the reason.
    """

    layers: tuple[Layer, ...]
    crossing_bytes: tuple[int, ...]
    gradient_bytes: tuple[int, ...]
    uncuttable: dict[int, str]

    def __post_init__(self) -> None:
        expected = len(self.layers)
        if not self.layers or len(self.crossing_bytes) != expected or len(self.gradient_bytes) != expected:
            raise ValueError(
                f"a chain of {expected} layers has {len(self.crossing_bytes)} forward and "
                f"{len(self.gradient_bytes)} backward crossings"
            )

    def scaled(self, factor: float) -> Chain:
        """Return the chain for micro-batches with ``factor`` times the examples; weights keep their size."""
        layers = tuple(
            replace(
                layer,
                forward_seconds=layer.forward_seconds * factor,
                backward_seconds=layer.backward_seconds * factor,
                activation_bytes=round(layer.activation_bytes * factor),
            )
            for layer in self.layers
        )
        crossing, gradient = (
            tuple(round(size * factor) for size in sizes) for sizes in (self.crossing_bytes, self.gradient_bytes)
        )
        return Chain(layers, crossing, gradient, self.uncuttable)


@dataclass(frozen=True)
class Link:
    """Connection of neighbouring stages: a message takes ``latency_seconds`` + bytes / ``bytes_per_second``."""

    latency_seconds: float = 0.0
    bytes_per_second: float = float("inf")

    def seconds(self, size: int) -> float:
        """Return the seconds of a message of ``size`` bytes."""
        return self.latency_seconds + size / self.bytes_per_second


@dataclass(frozen=True)
class PipelinePlan:
    """How the stages of a model run.

    Attributes:
        stages: The number of stages.
        micro_batches: The number of micro-batches per step and replica.
        order: A key of ``saman.pipeline.schedule.ORDERS``.
        recompute: Whether activations are computed again for the backward pass instead of kept.
        copies: Bytes in memory per byte of parameters while passes run: the weights, the accumulated gradient, the
            gradient of a micro-batch, and the optimiser's slots.
        update_copies: The same during the update, without activations: the mean gradient and temporary values take
            the place of the micro-batch's gradient.
    """

    stages: int
    micro_batches: int
    order: str = "1f1b"
    recompute: bool = False
    copies: int = 3
    update_copies: int = 0

    def alive(self, stage: int) -> int:
        """Return the largest number of micro-batches with activations in a ``stage`` of the chain at the same time.

        1F1B: the forward passes that run ahead of the first backward pass, a pass for each stage from here to the end
        (Narayanan et al. 2019, PipeDream, §3.2). GPipe: all (Huang et al. 2019, §2.3).
        """
        return self.micro_batches if self.order == "gpipe" else min(self.micro_batches, self.stages - stage)


class StageCosts:
    """Costs of layers [begin, end) as a stage, each in constant time by prefix sums."""

    def __init__(self, chain: Chain, plan: PipelinePlan, link: Link) -> None:
        self.chain, self.plan, self.link = chain, plan, link
        self._forward = (0.0, *accumulate(layer.forward_seconds for layer in chain.layers))
        self._backward = (0.0, *accumulate(layer.backward_seconds for layer in chain.layers))
        self._parameters = (0, *accumulate(layer.parameter_bytes for layer in chain.layers))
        self._activations = (0, *accumulate(layer.activation_bytes for layer in chain.layers))

    def forward_seconds(self, begin: int, end: int) -> float:
        """Return the seconds of a micro-batch's forward pass, without messages."""
        return self._forward[end] - self._forward[begin]

    def backward_seconds(self, begin: int, end: int) -> float:
        """Return the seconds of a micro-batch's backward pass, a recomputed forward pass included."""
        again = self.forward_seconds(begin, end) if self.plan.recompute else 0.0
        return self._backward[end] - self._backward[begin] + again

    def receive_forward_seconds(self, begin: int) -> float:
        """Return the seconds to receive a micro-batch's activations; 0 for the first stage."""
        return self.link.seconds(self.chain.crossing_bytes[begin]) if begin else 0.0

    def receive_backward_seconds(self, end: int) -> float:
        """Return the seconds to receive a micro-batch's gradients; 0 for the last stage."""
        return self.link.seconds(self.chain.gradient_bytes[end]) if end < len(self.chain.layers) else 0.0

    def seconds(self, begin: int, end: int) -> float:
        """Return the busy seconds per micro-batch: both passes and what the stage receives."""
        compute = self.forward_seconds(begin, end) + self.backward_seconds(begin, end)
        return compute + self.receive_forward_seconds(begin) + self.receive_backward_seconds(end)

    def memory_bytes(self, stage: int, begin: int, end: int) -> int:
        """Return the bytes that layers [begin, end) take as stage number ``stage``, above an idle process.

        A micro-batch between its passes keeps its activations and what arrived over the cut. With recomputation it
        keeps what arrived; a single set of activations exists during a backward pass (Chen et al. 2016, §3).

        Args:
            stage: Number of the stage, from 0; it sets how many micro-batches are held.
            begin: The first layer.
            end: The layer after the last.
        """
        held = self._parameters[end] - self._parameters[begin]
        parameters, update = held * self.plan.copies, held * self.plan.update_copies
        activations = self._activations[end] - self._activations[begin]
        arriving = self.chain.crossing_bytes[begin] if begin else 0
        alive = self.plan.alive(stage)
        if self.plan.recompute:
            return max(update, parameters + alive * arriving + activations)
        return max(update, parameters + alive * (arriving + activations))


def stage_spans(cuts: Sequence[int], layers: int) -> list[tuple[int, int]]:
    """Return [begin, end) of each stage for cuts before the layers at ``cuts``.

    >>> stage_spans([2], layers=5)
    [(0, 2), (2, 5)]
    """
    edges = [0, *cuts, layers]
    return list(zip(edges, edges[1:], strict=False))
