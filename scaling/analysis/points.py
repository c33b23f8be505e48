"""The point of a curve at a rank count: throughput, speed-up, the breakdown of a step, stragglers, outliers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from saman.runs.telemetry.stragglers import Straggler, stragglers
from saman.scaling.analysis.baselines import Baseline, throughput_ratio
from saman.scaling.analysis.run_values import MeasuredRun, Measurement
from saman.scaling.analysis.stages import StageMeasure, stage_measures
from saman.scaling.statistics.bootstrap import pooled_mean
from saman.scaling.statistics.drift import DriftTest, withheld
from saman.scaling.statistics.intervals import Estimate, median_estimate
from saman.scaling.statistics.steady_state import outliers
from saman.scaling.statistics.variability import karp_flatt, variation_per_node

_WINDOWS_POOLED = 50  # of a run, evenly taken; more do not move the median of all


@dataclass(frozen=True)
class StepBreakdown:
    """Seconds of a step by part, medians over runs.

    Attributes:
        exchange: Exposed exchange; None where it was not measured and is part of ``compute``.
        neighbours: What the stages of a pipeline wait for each other and transfer, the mean over stages.
    """

    compute: float
    exchange: float | None
    input_wait: float
    neighbours: float = 0.0

    @property
    def seconds(self) -> float:
        """The whole step of a point."""
        return self.compute + (self.exchange or 0.0) + self.input_wait + self.neighbours


@dataclass(frozen=True)
class WindowRates:
    """The distribution of throughput over windows, in samples per second."""

    median: float
    p5: float
    p95: float


@dataclass(frozen=True)
class CurvePoint:
    """The measures of one rank count of a curve.

    Attributes:
        throughput: Sustained, in samples per second.
        end_to_end: Median over runs of all samples ÷ all wall time, in samples per second; None where it is unknown.
        cpu_seconds_per_sample: Median over runs; None where it was not recorded.
        windows: Medians over runs of the median, 5 % and 95 % points of their windows, in samples per second.
        speedup: Over the curve's baseline; None without a baseline, 1 for the baseline itself.
        efficiency: Speed-up ÷ (ranks ÷ ranks of the baseline).
        serial_fraction: Karp–Flatt; None at or below the ranks of the baseline.
        step_seconds: Over the windows of all runs.
        outliers: Ids of runs.
        variation: Coefficient of variation of the processes of each node.
        stages: Of a pipeline with times per stage in its telemetry.
    """

    ranks: int
    nodes: int
    runs: tuple[MeasuredRun, ...]
    throughput: Estimate
    end_to_end: float | None
    cpu_seconds_per_sample: float | None
    windows: WindowRates
    speedup: Estimate | None
    efficiency: Estimate | None
    serial_fraction: float | None
    breakdown: StepBreakdown
    step_seconds: Estimate
    outliers: tuple[str, ...]
    stragglers: tuple[Straggler, ...]
    variation: Mapping[str, float | None]
    joules_per_sample: float | None
    stages: tuple[StageMeasure, ...] = ()

    @property
    def ranks_per_node(self) -> int:
        """Ranks on the fullest node."""
        return -(-self.ranks // self.nodes)

    @property
    def work_cpu_seconds_per_sample(self) -> float | None:
        """CPU seconds per sample outside of the exchange; None where CPU seconds or the exchange are unknown.

        A rank may poll in its exchange, on at most a core.
        """
        exchange = 0.0 if self.ranks == 1 else self.breakdown.exchange
        if self.cpu_seconds_per_sample is None or exchange is None:
            return None
        samples = self.throughput.value * self.breakdown.seconds  # of all ranks in a step
        return max(0.0, self.cpu_seconds_per_sample - exchange * self.ranks / samples)


def make_point(
    ranks: int, nodes: int, runs: tuple[MeasuredRun, ...], baseline: Baseline | None, drift: DriftTest
) -> CurvePoint:
    """Compute the measures of a rank count.

    Args:
        ranks: Number of ranks.
        nodes: Number of nodes.
        runs: The runs of this rank count.
        baseline: The baseline of speed-up and efficiency; without it both are ``None``.
        drift: Of all runs. Where they drift, intervals that assume independent runs are withheld, and those of ratios
            come from the ratio within each repeat.
    """
    rates = [run.measured.samples_per_second for run in runs]
    speedup, efficiency = _speedup(ranks, runs, baseline, drift)
    fraction = karp_flatt(speedup.value, ranks / baseline.ranks) if speedup and baseline else None
    measured = [run.measured for run in runs]
    nodes_of, own, busy = _rank_times(measured)
    step_seconds = _step_seconds(measured)
    flags = outliers(rates)
    return CurvePoint(
        ranks=ranks,
        nodes=nodes,
        runs=runs,
        throughput=withheld(median_estimate(rates), drift) if drift.found else median_estimate(rates),
        end_to_end=_median_of_known(run.end_to_end_samples_per_second for run in measured),
        cpu_seconds_per_sample=_median_of_known(run.cpu_seconds_per_sample for run in measured),
        windows=_window_rates(measured),
        speedup=speedup,
        efficiency=efficiency,
        serial_fraction=fraction,
        breakdown=_breakdown(measured),
        step_seconds=withheld(step_seconds, drift) if drift.found else step_seconds,
        outliers=tuple(run.facts.id for run, flag in zip(runs, flags, strict=True) if flag),
        stragglers=tuple(_stragglers(measured, busy, nodes_of)) if _exchange_known(measured) else (),
        variation=variation_per_node(_by_node(own, nodes_of)),
        joules_per_sample=_joules_per_sample(runs),
        stages=stage_measures(
            [run.stages for run in measured],
            runs[0].facts.micro_batches,
            [run.planned_stages for run in measured],
        ),
    )


def _median_of_known(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def _window_rates(runs: Sequence[Measurement]) -> WindowRates:
    found = [(run.throughput.median, run.throughput.p5, run.throughput.p95) for run in runs]
    median, p5, p95 = np.median(np.array(found), axis=0)
    return WindowRates(float(median), float(p5), float(p95))


def _speedup(
    ranks: int, runs: tuple[MeasuredRun, ...], baseline: Baseline | None, drift: DriftTest
) -> tuple[Estimate | None, Estimate | None]:
    """Speed-up and efficiency relative to the baseline."""
    if baseline is None:
        return None, None
    if baseline.runs is runs:
        itself = Estimate(1.0, len(runs), None, "the baseline itself")
        return itself, itself
    share = baseline.ranks / ranks
    return throughput_ratio(runs, baseline.runs, drift.found), throughput_ratio(runs, baseline.runs, drift.found, share)


def _joules_per_sample(runs: Sequence[MeasuredRun]) -> float | None:
    """The median over runs with a meter; None without any."""
    samples = {run.facts.id: run.measured.epochs[-1].samples for run in runs if run.measured.epochs}
    found = [
        run.facts.joules / samples[run.facts.id]
        for run in runs
        if run.facts.joules is not None and samples.get(run.facts.id, 0.0) > 0
    ]
    return float(np.median(found)) if found else None


def _stragglers(runs: Sequence[Measurement], busy: Mapping[int, float], nodes: Mapping[int, str]) -> list[Straggler]:
    """Ranks slower than their peers; the peers of a pipeline's rank are the replicas of its stage."""
    stage_of = {process.rank: process.stage for run in runs for process in run.processes}
    found = [
        straggler
        for stage in set(stage_of.values())
        for straggler in stragglers({rank: busy[rank] for rank in busy if stage_of[rank] == stage}, nodes)
    ]
    return sorted(found, key=lambda straggler: -straggler.slower)


def _exchange_known(runs: Iterable[Measurement]) -> bool:
    return all(run.exchange_seconds is not None for run in runs)


def _rank_times(runs: Sequence[Measurement]) -> tuple[dict[int, str], dict[int, float], dict[int, float]]:
    """Node, own seconds and busy seconds per step of each process, medians over runs."""
    nodes: dict[int, str] = {}
    own: dict[int, list[float]] = {}
    busy: dict[int, list[float]] = {}
    for run in runs:
        for process in run.processes:
            own.setdefault(process.rank, []).append(process.own_seconds)
            busy.setdefault(process.rank, []).append(process.busy_seconds)
            nodes.setdefault(process.rank, run.node_of.get(process.rank, "?"))
    own_medians, busy_medians = ({rank: float(np.median(of[rank])) for rank in of} for of in (own, busy))
    return nodes, own_medians, busy_medians


def _by_node(own: Mapping[int, float], nodes: Mapping[int, str]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for rank, value in own.items():
        found.setdefault(nodes[rank], []).append(value)
    return found


def _breakdown(runs: Sequence[Measurement]) -> StepBreakdown:
    step = float(np.median([run.step_seconds for run in runs]))
    wait = float(np.median([run.input_wait_seconds for run in runs]))
    known = [run.exchange_seconds for run in runs if run.exchange_seconds is not None]
    exchange = float(np.median(known)) if len(known) == len(runs) else None
    neighbours = float(np.median([_neighbour_seconds(run) for run in runs]))
    return StepBreakdown(max(0.0, step - wait - (exchange or 0.0) - neighbours), exchange, wait, neighbours)


def _neighbour_seconds(run: Measurement) -> float:
    """Seconds per step that stages wait for each other and transfer, the mean over the processes of a pipeline."""
    each = [float(np.median(stage.waiting + stage.transfer)) for stage in run.stages]
    return sum(each) / len(each) if each else 0.0


def _step_seconds(runs: Sequence[Measurement]) -> Estimate:
    """Seconds per step over the windows of all runs; the bootstrap resamples runs, not windows."""
    thinned = [run.window_step_seconds[:: -(-len(run.window_step_seconds) // _WINDOWS_POOLED)] for run in runs]
    return pooled_mean(thinned, resamples=499)
