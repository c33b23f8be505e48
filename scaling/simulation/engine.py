"""Discrete-event simulation of synchronous data-parallel training, up to 10,000 ranks in seconds.

rank 0   |forward|  backward    |         g₁ … gₙ become ready, last layer first
rank 1   |forward|   backward      |      ready everywhere once the slowest rank has it
network        tick ▸ [g₁ g₂ ‥]fused ▸ [g₃ ‥] ▸ [‥ gₙ]    buffer after buffer
step     |────────────────────────────────────────────|   ends with the last buffer
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from saman.pipeline.chain import Link
from saman.scaling.models.communication import flat_ring_seconds, hierarchical_seconds

Array = NDArray[np.float64]
Algorithm = Literal["ring", "hierarchical"]
_CHUNK = 2_000_000  # random draws held at once


@dataclass(frozen=True)
class Gradients:
    """Gradient tensors in the order of backward: their bytes, and when they are ready as a share of backward."""

    message_bytes: Array
    ready: Array


@dataclass(frozen=True)
class RankStep:
    """The work of a rank in a step.

    Attributes:
        jitter: Measured step times ÷ their median; drawn for every rank and step.
        slow_ranks: Lasting factors of ranks; drawn once per rank.
    """

    forward_seconds: float
    backward_seconds: float
    gradients: Gradients
    samples_per_rank: float
    jitter: Array
    slow_ranks: Array

    @property
    def compute_seconds(self) -> float:
        """A simulated step without exchange."""
        return self.forward_seconds + self.backward_seconds


@dataclass(frozen=True)
class Machine:
    """Nodes, their links, and Horovod's use of them; its defaults for fusion buffer and cycle.

    ``negotiation_seconds`` per doubling of ranks: before each round of buffers the coordinator gathers over a tree
    which gradients are ready. Measurements on few ranks do not show it; it is fitted to large runs.
    """

    ranks_per_node: int
    within: Link
    across: Link
    algorithm: Algorithm = "ring"
    fusion_bytes: float = 64 * 2**20
    cycle_seconds: float = 1e-3
    negotiation_seconds: float = 0.0


@dataclass(frozen=True)
class SimulationResult:
    """A simulated rank count: medians over steps in seconds; throughput in samples per second of all ranks.

    ``efficiency`` is relative to a single rank with the same jitter. ``straggler_seconds`` is the mean wait of a rank
    for the slowest, never negative, and 0 on a single rank.
    """

    ranks: int
    nodes: int
    step_seconds: float
    low_step_seconds: float
    high_step_seconds: float
    exposed_seconds: float
    straggler_seconds: float
    throughput: float
    efficiency: float


def simulate(job: RankStep, machine: Machine, ranks: int, steps: int = 100, seed: int = 0) -> SimulationResult:
    """Simulate steps of synchronous training.

    Args:
        job: The work of a rank.
        machine: Nodes and links.
        ranks: Number of ranks.
        steps: Number of steps.
        seed: Of the jitter.

    Raises:
        ValueError: The ranks do not fill the nodes evenly.
    """
    per_node = min(ranks, machine.ranks_per_node)
    if ranks % per_node:
        raise ValueError(f"{ranks} ranks do not fill nodes of {per_node} evenly")
    nodes = ranks // per_node
    slowest, waits, typical = _slowest(job, ranks, steps, np.random.default_rng(seed))
    cost = _exchange(machine, nodes, per_node)
    talk = machine.negotiation_seconds * float(np.log2(ranks))
    times = np.array([_step(job, machine, factor, cost if ranks > 1 else None, talk) for factor in slowest])
    alone = typical * job.compute_seconds
    low, high = np.quantile(times, [0.05, 0.95])
    throughput = ranks * job.samples_per_rank / float(times.mean())
    return SimulationResult(
        ranks=ranks,
        nodes=nodes,
        step_seconds=float(np.median(times)),
        low_step_seconds=float(low),
        high_step_seconds=float(high),
        exposed_seconds=float(np.median(times - slowest * job.compute_seconds)),
        straggler_seconds=float(waits.mean()) * job.compute_seconds,
        throughput=throughput,
        efficiency=alone / float(times.mean()),
    )


def _slowest(job: RankStep, ranks: int, steps: int, rng: np.random.Generator) -> tuple[Array, Array, float]:
    """The factor of the slowest rank in each step, the mean wait of a rank for it, and the mean factor of a rank."""
    lasting = rng.choice(job.slow_ranks, ranks)
    slowest, waits = slowest_factors(job.jitter, ranks, steps, rng, lasting)
    return slowest, waits, float(np.mean(job.jitter) * np.mean(job.slow_ranks))


def slowest_factors(
    jitter: Array, ranks: int, steps: int, rng: np.random.Generator, lasting: Array | None = None
) -> tuple[Array, Array]:
    """Simulate the factor of the slowest rank in each step, for which all ranks wait, and how long they wait.

    Args:
        jitter: Factors of a step's seconds to draw from, shape (n,).
        ranks: Number of ranks.
        steps: Number of steps.
        rng: Source of the draws.
        lasting: Factor of each rank in all steps, shape (ranks,); ``None`` for equal ranks.

    Returns:
        The largest factor of each step, and its distance from the mean of all ranks; shape (steps,) each.
    """
    at_once = max(1, _CHUNK // ranks)
    slowest, waits = [], []
    for start in range(0, steps, at_once):
        draws = rng.choice(jitter, (min(at_once, steps - start), ranks))
        factors = draws if lasting is None else draws * lasting
        slowest.append(factors.max(axis=1))
        waits.append(slowest[-1] - factors.mean(axis=1))
    return np.concatenate(slowest), np.maximum(np.concatenate(waits), 0.0)


def _exchange(machine: Machine, nodes: int, per_node: int) -> Callable[[float], float]:
    """The seconds of an allreduce on this machine as a function of its bytes."""
    model = hierarchical_seconds if machine.algorithm == "hierarchical" else flat_ring_seconds
    return lambda message: float(model(message, nodes, per_node, machine.within, machine.across))


def _step(
    job: RankStep, machine: Machine, factor: float, cost: Callable[[float], float] | None, talk: float = 0.0
) -> float:
    """Seconds of a step: the slowest rank takes ``factor`` times the usual; events are cycle ticks and buffer ends.

    ``talk`` is the time of a negotiation, which holds up the buffers of its round.
    """
    end_of_compute = factor * job.compute_seconds
    if cost is None:
        return end_of_compute
    ready = factor * (job.forward_seconds + job.gradients.ready * job.backward_seconds)
    cycle = machine.cycle_seconds
    sent, free = 0, 0.0
    while sent < len(ready):
        # the next tick at which at least one gradient is ready everywhere and the network is free
        tick = (
            np.ceil(max(float(ready[sent]), free) / cycle - 1e-9) * cycle
            if cycle > 0
            else max(float(ready[sent]), free)
        )
        waiting = max(sent + 1, int(np.searchsorted(ready, tick, side="right")))
        free = tick + talk
        while sent < waiting:
            last = _fused(job.gradients.message_bytes, sent, waiting, machine.fusion_bytes)
            free += cost(float(job.gradients.message_bytes[sent:last].sum()))
            sent = last
    return max(end_of_compute, free)


def _fused(message_bytes: Array, first: int, waiting: int, limit: float) -> int:
    """The end of the gradients in the next buffer; a gradient larger than the buffer is sent alone."""
    filled = np.cumsum(message_bytes[first:waiting])
    return first + max(1, int(np.searchsorted(filled, limit, side="right")))
