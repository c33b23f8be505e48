"""What is known at one rank count of a curve: throughput, speed-up, where a step goes, who stands apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from saman.scaling.analysis.results import Run
from saman.scaling.analysis.stages import StageMeasure, stage_measures
from saman.scaling.statistics.bootstrap import hierarchical_estimate, ratio_estimate
from saman.scaling.statistics.intervals import Estimate, median_estimate
from saman.scaling.statistics.steady_state import outliers
from saman.scaling.statistics.variability import Straggler, karp_flatt, stragglers, variation_per_node

_WINDOWS_POOLED = 50  # of a run, evenly taken; more do not move the median of all


@dataclass(frozen=True)
class StepBreakdown:
    """Seconds of a step, medians over runs; ``exchange`` is none where exposed exchange was not measured.

    ``neighbours`` is what the stages of a pipeline wait for each other and hand over, the mean over stages.
    """

    compute: float
    exchange: float | None
    input_wait: float
    neighbours: float = 0.0

    @property
    def seconds(self) -> float:
        """The step."""
        return self.compute + (self.exchange or 0.0) + self.input_wait + self.neighbours


@dataclass(frozen=True)
class CurvePoint:
    """What is known at one rank count of a curve. Speed-up and efficiency are against the curve's base."""

    ranks: int
    nodes: int
    runs: tuple[Run, ...]
    throughput: Estimate
    speedup: Estimate | None
    efficiency: Estimate | None
    serial_fraction: float | None
    split: StepBreakdown
    step: Estimate
    outliers: tuple[str, ...]
    stragglers: tuple[Straggler, ...]
    variation: Mapping[str, float | None]
    joules_per_sample: float | None
    stages: tuple[StageMeasure, ...] = ()


def make_point(
    ranks: int, nodes: int, runs: tuple[Run, ...], base: tuple[Run, ...] | None, base_ranks: int
) -> CurvePoint:
    """The point of ``runs``; speed-up and efficiency are against the runs ``base`` on ``base_ranks``."""
    rates = [run.throughput for run in runs]
    speedup = efficiency = fraction = None
    if base is not None and base is not runs:
        at_base = [run.throughput for run in base]
        speedup = ratio_estimate(rates, at_base)
        efficiency = ratio_estimate(rates, at_base, scale=base_ranks / ranks)
        fraction = karp_flatt(speedup.value, ranks / base_ranks)
    elif base is not None:
        speedup = efficiency = Estimate(1.0, len(runs), None, "the base case itself")
    flags = outliers(rates)
    nodes_of, own = _own_work(runs)
    joules = [run.joules / _samples(run) for run in runs if run.joules is not None and _samples(run) > 0]
    return CurvePoint(
        ranks,
        nodes,
        runs,
        median_estimate(rates),
        speedup,
        efficiency,
        fraction,
        _split(runs),
        _step(runs),
        tuple(run.id for run, flag in zip(runs, flags, strict=True) if flag),
        tuple(_stragglers(runs, own, nodes_of)) if _exchange_known(runs) else (),
        variation_per_node(_by_node(own, nodes_of)),
        float(np.median(joules)) if joules else None,
        stage_measures([run.stages for run in runs], runs[0].micro_batches, [run.split for run in runs]),
    )


def _stragglers(runs: Sequence[Run], own: Mapping[int, float], nodes: Mapping[int, str]) -> list[Straggler]:
    """Ranks that are slower than their peers; those of a pipeline's rank are the replicas of its stage."""
    stage_of = {process.rank: process.stage for run in runs for process in run.processes}
    found = [
        straggler
        for stage in set(stage_of.values())
        for straggler in stragglers({rank: own[rank] for rank in own if stage_of[rank] == stage}, nodes)
    ]
    return sorted(found, key=lambda straggler: -straggler.slower)


def _samples(run: Run) -> float:
    return run.epochs[-1].samples if run.epochs else 0.0


def _exchange_known(runs: Iterable[Run]) -> bool:
    return all(run.exchange_seconds is not None for run in runs)


def _own_work(runs: Sequence[Run]) -> tuple[dict[int, str], dict[int, float]]:
    """Node and own seconds per step of each process, medians over runs."""
    nodes: dict[int, str] = {}
    seconds: dict[int, list[float]] = {}
    for run in runs:
        for process in run.processes:
            seconds.setdefault(process.rank, []).append(process.own_seconds)
            nodes.setdefault(process.rank, run.node_of.get(process.rank, "?"))
    return nodes, {rank: float(np.median(values)) for rank, values in seconds.items()}


def _by_node(own: Mapping[int, float], nodes: Mapping[int, str]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for rank, value in own.items():
        found.setdefault(nodes[rank], []).append(value)
    return found


def _split(runs: Sequence[Run]) -> StepBreakdown:
    step = float(np.median([run.step_seconds for run in runs]))
    wait = float(np.median([run.input_wait_seconds for run in runs]))
    known = [run.exchange_seconds for run in runs if run.exchange_seconds is not None]
    exchange = float(np.median(known)) if len(known) == len(runs) else None
    apart = float(np.median([_neighbours(run) for run in runs]))
    return StepBreakdown(max(0.0, step - wait - (exchange or 0.0) - apart), exchange, wait, apart)


def _neighbours(run: Run) -> float:
    """Seconds per step that stages wait for each other and hand over, the mean over the processes of a pipeline."""
    each = [float(np.median(one.waiting + one.transfer)) for one in run.stages]
    return sum(each) / len(each) if each else 0.0


def _step(runs: Sequence[Run]) -> Estimate:
    """Seconds per step over the windows of all runs; windows enter, so runs are drawn with theirs."""
    thinned = [run.step_times[:: -(-len(run.step_times) // _WINDOWS_POOLED)] for run in runs]
    return hierarchical_estimate(thinned, lambda windows: float(np.mean(windows)), resamples=499)
