"""A model as the partitioner sees it: a chain of measured layers, and what a stage made of some of them costs.

Layers stand in a topological order. A cut before layer i sends everything that was made before i and is used at i
or later: a skip connection that crosses several cuts is counted, and travels, at each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True)
class Layer:
    """What one layer takes for one micro-batch of the measured size.

    ``activation_bytes`` are kept from its forward to its backward pass.
    """

    name: str
    forward_seconds: float
    backward_seconds: float
    parameter_bytes: int
    activation_bytes: int


@dataclass(frozen=True)
class Chain:
    """Layers in topological order; ``crossing_bytes[i]`` is what a cut before layer i sends forward.

    ``gradient_bytes[i]`` comes back over the same cut (integers and masks have no gradient). ``uncuttable`` holds the
    positions where no cut may fall and why: a shared layer on both sides, for instance.
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
        """The chain for micro-batches of ``factor`` times the examples; time and activations go with the examples."""
        layers = tuple(
            Layer(
                one.name,
                one.forward_seconds * factor,
                one.backward_seconds * factor,
                one.parameter_bytes,
                round(one.activation_bytes * factor),
            )
            for one in self.layers
        )
        crossing, gradient = (
            tuple(round(size * factor) for size in sizes) for sizes in (self.crossing_bytes, self.gradient_bytes)
        )
        return Chain(layers, crossing, gradient, self.uncuttable)


@dataclass(frozen=True)
class Link:
    """A message between neighbouring stages takes ``latency_seconds`` + bytes / ``bytes_per_second``."""

    latency_seconds: float = 0.0
    bytes_per_second: float = float("inf")

    def seconds(self, size: int) -> float:
        """Time of one message of ``size`` bytes."""
        return self.latency_seconds + size / self.bytes_per_second


@dataclass(frozen=True)
class PipelinePlan:
    """How a split is run: how many stages and micro-batches, in which order, and what is kept in memory.

    ``copies`` counts what is held per byte of parameters while passes run: the weights, the accumulated gradient, the
    gradient of one micro-batch, and the optimiser's slots. ``update_copies`` counts what is held during the update,
    when no activations are: the mean gradient and temporary values instead of the micro-batch's gradient.
    """

    stages: int
    micro_batches: int
    order: str = "1f1b"
    recompute: bool = False
    copies: int = 3
    update_copies: int = 0

    def alive(self, stage: int) -> int:
        """Micro-batches whose activations ``stage`` holds at most.

        1F1B: the forward passes that run ahead of the first backward pass, one per stage from here to the end
        (Narayanan et al. 2019, PipeDream, §3.2). GPipe: all (Huang et al. 2019, §2.3).
        """
        return self.micro_batches if self.order == "gpipe" else min(self.micro_batches, self.stages - stage)


class StageCosts:
    """Costs of layers [begin, end) as one stage, by prefix sums: constant time each."""

    def __init__(self, chain: Chain, plan: PipelinePlan, link: Link) -> None:
        self.chain, self.plan, self.link = chain, plan, link
        self._forward = (0.0, *accumulate(one.forward_seconds for one in chain.layers))
        self._backward = (0.0, *accumulate(one.backward_seconds for one in chain.layers))
        self._parameters = (0, *accumulate(one.parameter_bytes for one in chain.layers))
        self._activations = (0, *accumulate(one.activation_bytes for one in chain.layers))

    def forward_seconds(self, begin: int, end: int) -> float:
        """Computation of one micro-batch's forward pass."""
        return self._forward[end] - self._forward[begin]

    def backward_seconds(self, begin: int, end: int) -> float:
        """Computation of one micro-batch's backward pass, with the second forward pass of recomputation."""
        again = self.forward_seconds(begin, end) if self.plan.recompute else 0.0
        return self._backward[end] - self._backward[begin] + again

    def receive_forward_seconds(self, begin: int) -> float:
        """Time for one micro-batch's activations to come in; the first stage receives none."""
        return self.link.seconds(self.chain.crossing_bytes[begin]) if begin else 0.0

    def receive_backward_seconds(self, end: int) -> float:
        """Time for one micro-batch's gradients to come back; the last stage receives none."""
        return self.link.seconds(self.chain.gradient_bytes[end]) if end < len(self.chain.layers) else 0.0

    def seconds(self, begin: int, end: int) -> float:
        """What the stage is busy for per micro-batch: both passes and what it receives."""
        compute = self.forward_seconds(begin, end) + self.backward_seconds(begin, end)
        return compute + self.receive_forward_seconds(begin) + self.receive_backward_seconds(end)

    def memory_bytes(self, stage: int, begin: int, end: int) -> int:
        """What layers [begin, end) hold as stage number ``stage``, over an idle process.

        Each micro-batch alive keeps its activations and what came in over the cut; with recomputation only what
        came in, and one micro-batch's activations while its backward pass runs (Chen et al. 2016, §3).
        """
        held = self._parameters[end] - self._parameters[begin]
        parameters, update = held * self.plan.copies, held * self.plan.update_copies
        activations = self._activations[end] - self._activations[begin]
        arriving = self.chain.crossing_bytes[begin] if begin else 0
        alive = self.plan.alive(stage)
        if self.plan.recompute:
            return max(update, parameters + alive * arriving + activations)
        return max(update, parameters + alive * (arriving + activations))


def bounds(cuts: Sequence[int], layers: int) -> list[tuple[int, int]]:
    """The [begin, end) of each stage for cuts before the layers ``cuts``."""
    edges = [0, *cuts, layers]
    return list(zip(edges, edges[1:], strict=False))
