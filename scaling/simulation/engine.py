"""Discrete-event simulation of synchronous data-parallel training, up to 10,000 ranks in seconds.

rank 0   |forward|  backward    |         g₁ … gₙ become ready, last layer first
rank 1   |forward|   backward      |      ready everywhere when the slowest rank has it
network        tick ▸ [g₁ g₂ ‥]fused ▸ [g₃ ‥] ▸ [‥ gₙ]    one buffer after the other
step     |────────────────────────────────────────────|   ends when the last buffer has arrived
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
    """Gradient tensors in the order in which backward makes them: bytes, and when, as a share of backward."""

    message_bytes: Array
    ready: Array

    @classmethod
    def uniform(cls, total_bytes: float, tensors: int = 100) -> Gradients:
        """``tensors`` equal gradients that become ready evenly over the backward pass."""
        return cls(np.full(tensors, total_bytes / tensors), np.arange(1, tensors + 1) / tensors)


@dataclass(frozen=True)
class RankStep:
    """What one rank does in a step, in seconds, and what it exchanges.

    ``jitter`` holds measured step times ÷ their median, drawn from for every rank and step; ``slow_ranks`` are lasting
    factors of the ranks, drawn once for each.
    """

    forward_seconds: float
    backward_seconds: float
    gradients: Gradients
    samples_per_rank: float
    jitter: Array
    slow_ranks: Array

    @property
    def compute_seconds(self) -> float:
        """A step without any exchange."""
        return self.forward_seconds + self.backward_seconds


@dataclass(frozen=True)
class Machine:
    """Nodes and their links, and how Horovod uses them: fusion buffer and cycle as by its defaults."""

    ranks_per_node: int
    within: Link
    across: Link
    algorithm: Algorithm = "ring"
    fusion_bytes: float = 64 * 2**20
    cycle_seconds: float = 1e-3


@dataclass(frozen=True)
class SimulationResult:
    """A simulated rank count: medians over steps, seconds per step and samples per second of all ranks."""

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
    """``steps`` steps of ``job`` on ``ranks`` ranks; efficiency is against one rank that has the same jitter.

    Raises ``ValueError`` where ranks do not fill nodes evenly.
    """
    per_node = min(ranks, machine.ranks_per_node)
    if ranks % per_node:
        raise ValueError(f"{ranks} ranks do not fill nodes of {per_node} evenly")
    nodes = ranks // per_node
    slowest, typical = _slowest(job, ranks, steps, np.random.default_rng(seed))
    cost = _exchange(machine, nodes, per_node)
    times = np.array([_step(job, machine, factor, cost if ranks > 1 else None) for factor in slowest])
    step = float(np.median(times))
    compute = float(np.median(slowest)) * job.compute_seconds
    alone = typical * job.compute_seconds
    low, high = np.quantile(times, [0.05, 0.95])
    throughput = ranks * job.samples_per_rank / float(times.mean())
    return SimulationResult(
        ranks,
        nodes,
        step,
        float(low),
        float(high),
        step - compute,
        compute - alone,
        throughput,
        alone / float(times.mean()),
    )


def _slowest(job: RankStep, ranks: int, steps: int, rng: np.random.Generator) -> tuple[Array, float]:
    """The slowest rank's factor in each step, and the mean factor of a rank; all wait for the former."""
    lasting = rng.choice(job.slow_ranks, ranks)
    found = slowest_factors(job.jitter, ranks, steps, rng, lasting)
    return found, float(np.mean(job.jitter) * np.mean(job.slow_ranks))


def slowest_factors(
    jitter: Array, ranks: int, steps: int, rng: np.random.Generator, lasting: Array | None = None
) -> Array:
    """The largest of ``ranks`` draws from ``jitter``, each times its rank's ``lasting`` factor, for every step."""
    at_once = max(1, _CHUNK // ranks)
    found = []
    for start in range(0, steps, at_once):
        draws = rng.choice(jitter, (min(at_once, steps - start), ranks))
        found.append((draws if lasting is None else draws * lasting).max(axis=1))
    return np.concatenate(found)


def _exchange(machine: Machine, nodes: int, per_node: int) -> Callable[[float], float]:
    """Seconds of an allreduce of so many bytes on this machine."""
    model = hierarchical_seconds if machine.algorithm == "hierarchical" else flat_ring_seconds
    return lambda message: float(model(message, nodes, per_node, machine.within, machine.across))


def _step(job: RankStep, machine: Machine, factor: float, cost: Callable[[float], float] | None) -> float:
    """Seconds of one step whose slowest rank takes ``factor`` times the usual; events are ticks and ends of buffers."""
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
        free = tick
        while sent < waiting:
            last = _fused(job.gradients.message_bytes, sent, waiting, machine.fusion_bytes)
            free += cost(float(job.gradients.message_bytes[sent:last].sum()))
            sent = last
    return max(end_of_compute, free)


def _fused(message_bytes: Array, first: int, waiting: int, limit: float) -> int:
    """One past the last gradient that goes into the buffer; a gradient larger than the buffer goes alone."""
    filled = np.cumsum(message_bytes[first:waiting])
    return first + max(1, int(np.searchsorted(filled, limit, side="right")))
