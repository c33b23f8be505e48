"""Calibrates the simulation with a curve's telemetry, and checks it on the measured points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saman.pipeline.chain import Link
from saman.scaling.analysis.curves import Curve, point_beyond
from saman.scaling.models.communication import HIERARCHICAL, RING
from saman.scaling.models.fitting import Fit, fit
from saman.scaling.models.laws import ScalingPoint
from saman.scaling.simulation.engine import Gradients, Machine, RankStep, SimulationResult, simulate, slowest_factors

Array = NDArray[np.float64]
_BACKWARD_SHARE = 2 / 3
# Throughput does not show how much of an exchange overlaps, so the exposed part is a message after backward.
_ONE_MESSAGE = Gradients(np.array([1.0]), np.array([1.0]))


@dataclass(frozen=True)
class SimulatedPoint:
    """A simulated point; ``measured`` and ``error`` (simulated ÷ measured − 1) where it was measured."""

    simulated: SimulationResult
    measured: float | None
    error: float | None


@dataclass(frozen=True)
class Simulation:
    """Simulated points of a curve; ``basis`` says in words how they were calibrated."""

    label: str
    points: tuple[SimulatedPoint, ...]
    basis: str


def simulate_curve(curve: Curve, ranks: Sequence[int], steps: int = 200) -> Simulation | None:
    """Simulate a curve at its measured rank counts and at others.

    Compute and the distribution of step times are those of a single rank. The links have α and β of the allreduce law,
    fitted to the rest of the measured steps: without compute and without the wait for the slowest rank.

    Args:
        curve: A measured curve.
        ranks: More rank counts.
        steps: Simulated steps per rank count.

    Returns:
        The simulation; None without a run on a single rank or below three measured counts.
    """
    single = next((point for point in curve.points if point.ranks == 1), None)
    if single is None or curve.choice is None:
        return None
    one_rank = float(np.median([run.measured.step_seconds for run in single.runs]))
    jitter = np.concatenate([_relative(run.measured.window_step_seconds) for run in single.runs])
    samples = float(single.runs[0].facts.global_batch)
    fitted = _links(curve, one_rank, samples, jitter)
    if fitted is None:
        return None
    machine = _machine(fitted, one_rank)
    measured = {point.ranks: point.throughput.value for point in curve.points}
    places = [*curve.choice.fit.points, *(point_beyond(curve.choice.fit.points, n) for n in ranks if n not in measured)]
    found = []
    for place in places:
        if place.ranks % min(place.ranks, machine.ranks_per_node):
            continue  # the simulation fills nodes evenly
        job = _job(curve, one_rank, samples, place.ranks, jitter)
        result = simulate(job, machine, place.ranks, steps)
        known = measured.get(place.ranks)
        found.append(SimulatedPoint(result, known, result.throughput / known - 1 if known else None))
    errors = [abs(point.error) for point in found if point.error is not None]
    error = f"error up to {max(errors):.1%} at {len(errors)} measured counts"
    basis = f"step times of a single rank and {fitted.law.title}; {error}"
    return Simulation(curve.label, tuple(found), basis)


def _relative(step_seconds: Array) -> Array:
    return np.asarray(step_seconds / np.median(step_seconds))


def _links(curve: Curve, one_rank: float, samples: float, jitter: Array) -> Fit | None:
    """The allreduce law fitted to throughput without the wait for the slowest rank."""
    assert curve.choice is not None
    rng = np.random.default_rng(0)
    adjusted = []
    for point in curve.points:
        compute, batch = _compute(curve, one_rank, samples, point.ranks)
        wait = (float(slowest_factors(jitter, point.ranks, 200, rng).mean()) - float(jitter.mean())) * compute
        step = batch / point.throughput.value
        adjusted.append(ScalingPoint(point.ranks, batch / max(step - wait, compute), point.nodes))
    law = RING if curve.choice.fit.law is RING else HIERARCHICAL
    return fit(law, tuple(adjusted), curve.group.scaling)


def _compute(curve: Curve, one_rank: float, samples: float, ranks: int) -> tuple[float, float]:
    """Compute seconds of a rank in a step, and the samples of all ranks in it."""
    strong = curve.group.scaling == "strong"
    return (one_rank / ranks, samples) if strong else (one_rank, samples * ranks)


def _job(curve: Curve, one_rank: float, samples: float, ranks: int, jitter: Array) -> RankStep:
    compute, batch = _compute(curve, one_rank, samples, ranks)
    forward = compute * (1 - _BACKWARD_SHARE)
    return RankStep(forward, compute - forward, _ONE_MESSAGE, batch / ranks, jitter, np.ones(1))


def _machine(fitted: Fit, one_rank: float) -> Machine:
    named = {parameter.name: parameter.value for parameter in fitted.parameters}
    per_node = max(-(-point.ranks // point.nodes) for point in fitted.points)
    if max(point.nodes for point in fitted.points) == 1:
        per_node = 10**9  # a single node was measured
    within, across = _link(named, "within", one_rank), _link(named, "across", one_rank)
    return Machine(per_node, within, across, "ring" if fitted.law is RING else "hierarchical", float("inf"), 0.0)


def _link(named: Mapping[str, float], side: str, one_rank: float) -> Link:
    """A link for a message of 1 byte; the law's α and β are in steps of a single rank."""
    bandwidth, latency = named.get(f"bandwidth_{side}", 0.0), named.get(f"latency_{side}", 0.0)
    return Link(latency * one_rank, 1.0 / max(bandwidth * one_rank, 1e-300))
