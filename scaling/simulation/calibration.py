"""Calibrates the simulation with a curve's telemetry, and checks it on counts that it was not fitted to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saman.pipeline.chain import Link
from saman.scaling.analysis.curves import Curve, point_beyond
from saman.scaling.analysis.points import CurvePoint
from saman.scaling.models.communication import HIERARCHICAL, RING
from saman.scaling.models.fitting import Fit, fit
from saman.scaling.models.laws import ScalingPoint
from saman.scaling.simulation.engine import Gradients, Machine, RankStep, SimulationResult, simulate, slowest_factors
from saman.scaling.simulation.jitter import StepJitter, recorded_jitter, step_jitter

Array = NDArray[np.float64]
_BACKWARD_SHARE = 2 / 3
_FEWEST_SMALLER = 3  # counts, a single rank among them, to which links are fitted for a check
# Throughput does not show how much of an exchange overlaps, so the exposed part is a message after backward.
_ONE_MESSAGE = Gradients(np.array([1.0]), np.array([1.0]))


@dataclass(frozen=True)
class SimulatedPoint:
    """A simulated point; ``measured`` where it was measured.

    ``error`` is simulated ÷ measured − 1 with links fitted to smaller counts alone; None where too few are smaller.
    """

    simulated: SimulationResult
    measured: float | None
    error: float | None


@dataclass(frozen=True)
class Simulation:
    """Simulated points of a curve; ``basis`` says in words how they were calibrated and checked."""

    label: str
    points: tuple[SimulatedPoint, ...]
    basis: str


@dataclass(frozen=True)
class _SingleRank:
    """What the runs on a single rank tell: seconds and samples of a step, and the jitter of steps."""

    curve: Curve
    seconds: float
    samples: float
    jitter: StepJitter


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
    alone = _SingleRank(
        curve=curve,
        seconds=float(np.median([run.measured.step_seconds for run in single.runs])),
        samples=float(single.runs[0].facts.global_batch),
        jitter=_jitter(single),
    )
    places = [ScalingPoint(point.ranks, point.throughput.value, point.nodes) for point in curve.points]
    fitted = _links(alone, places)
    if fitted is None:
        return None
    wanted = [*places, *(point_beyond(places, n) for n in ranks if n not in {place.ranks for place in places})]
    found = []
    for place in wanted:
        result = _simulated(alone, fitted, place, steps)
        if result is not None:
            known = place.throughput or None
            found.append(SimulatedPoint(result, known, _held_out_error(alone, places, place, steps)))
    return Simulation(curve.label, tuple(found), _basis(alone, fitted, found))


def _jitter(single: CurvePoint) -> StepJitter:
    """The jitter of the steps of a single rank: recorded where every run has it, else from its windows."""
    recorded = [
        process.own_deviation_seconds / process.own_seconds
        for run in single.runs
        for process in run.measured.processes
        if process.own_deviation_seconds is not None and process.own_seconds > 0
    ]
    if len(recorded) == len(single.runs):
        return recorded_jitter(recorded)
    return step_jitter([(run.measured.window_step_seconds, run.measured.window_steps) for run in single.runs])


def _basis(alone: _SingleRank, fitted: Fit, found: Sequence[SimulatedPoint]) -> str:
    errors = [abs(point.error) for point in found if point.error is not None]
    check = (
        f"error up to {max(errors):.1%} at {len(errors)} counts, each simulated from smaller counts alone"
        if errors
        else "not checked: no measured count has two smaller ones beside a single rank"
    )
    return f"{alone.jitter.assumption}; {fitted.law.title}; {check}"


def _held_out_error(
    alone: _SingleRank, places: Sequence[ScalingPoint], place: ScalingPoint, steps: int
) -> float | None:
    """Simulated ÷ measured − 1 of a count that the links were not fitted to."""
    smaller = [other for other in places if other.ranks < place.ranks]
    if not place.throughput or len(smaller) < _FEWEST_SMALLER:
        return None
    fitted = _links(alone, smaller)
    result = None if fitted is None else _simulated(alone, fitted, place, steps)
    return None if result is None else result.throughput / place.throughput - 1


def _simulated(alone: _SingleRank, fitted: Fit, place: ScalingPoint, steps: int) -> SimulationResult | None:
    """The simulation of a place; None where its ranks do not fill the nodes evenly."""
    machine = _machine(fitted, alone.seconds)
    if place.ranks % min(place.ranks, machine.ranks_per_node):
        return None
    return simulate(_job(alone, place.ranks), machine, place.ranks, steps)


def _links(alone: _SingleRank, places: Sequence[ScalingPoint]) -> Fit | None:
    """The allreduce law fitted to throughput without the wait for the slowest rank: that of the smaller misfit."""
    rng = np.random.default_rng(0)
    adjusted = []
    for place in places:
        compute, batch = _compute(alone.curve, alone.seconds, alone.samples, place.ranks)
        wait = float(slowest_factors(alone.jitter.factors, place.ranks, 200, rng)[1].mean()) * compute
        step = batch / place.throughput
        adjusted.append(ScalingPoint(place.ranks, batch / max(step - wait, compute), place.nodes))
    fits = [fit(law, tuple(adjusted), alone.curve.group.scaling) for law in (HIERARCHICAL, RING)]
    known = [found for found in fits if found is not None]
    return min(known, key=lambda found: sum(np.square(found.residuals)), default=None)


def _compute(curve: Curve, one_rank: float, samples: float, ranks: int) -> tuple[float, float]:
    """Compute seconds of a rank in a step, and the samples of all ranks in it."""
    strong = curve.group.scaling == "strong"
    return (one_rank / ranks, samples) if strong else (one_rank, samples * ranks)


def _job(alone: _SingleRank, ranks: int) -> RankStep:
    compute, batch = _compute(alone.curve, alone.seconds, alone.samples, ranks)
    forward = compute * (1 - _BACKWARD_SHARE)
    return RankStep(forward, compute - forward, _ONE_MESSAGE, batch / ranks, alone.jitter.factors, np.ones(1))


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
