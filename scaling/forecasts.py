"""Forecasts rank counts that were not run: by scaling laws, by pipeline stages and by simulation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from saman.configs.errors import UserError
from saman.runs.folder import RunFolder
from saman.scaling.analysis.analysis import Analysis
from saman.scaling.analysis.curves import Curve
from saman.scaling.analysis.run_values import MeasuredRun
from saman.scaling.analysis.sources import find_source
from saman.scaling.pipelines.forecast import PipelineForecast, forecast
from saman.scaling.pipelines.profiled_shares import profiled_shares
from saman.scaling.report.rows import PredictionRow
from saman.scaling.report.tables import prediction_rows
from saman.scaling.simulation.calibration import Simulation, simulate_curve
from saman.scaling.simulation.engine import SimulationResult
from saman.scaling.simulation.interruptions import GoodputEstimate, Interruptions, estimate_goodput
from saman.scaling.simulation.resilience import MeasuredCosts, Resilience, forecast_resilience, measure_costs
from saman.scaling.track.keeping import read_and_settle, record_forecasts

_WEEK_SECONDS = 7 * 86400.0  # long enough for failures to happen


@dataclass(frozen=True)
class ForecastRequest:
    """The rank counts and pipelines of a forecast.

    Attributes:
        ranks: Rank counts.
        micro_batches: Micro-batches per replica of pipelines; ``None`` for the measured numbers.
        stages: Stages per replica of pipelines; ``None`` for the measured numbers.
        simulate: Simulate the curves too.
        interruptions: Checkpoints and node failures of the simulated runs; ``None`` for undisturbed runs.
        node_mtbf_seconds: Mean time between failures of a node, for goodput with measured costs; ``None`` without.
    """

    ranks: tuple[int, ...]
    micro_batches: tuple[int, ...] | None = None
    stages: tuple[int, ...] | None = None
    simulate: bool = False
    interruptions: Interruptions | None = None
    node_mtbf_seconds: float | None = None


@dataclass(frozen=True)
class SimulatedCurve:
    """The simulation of a curve; ``goodput`` has an estimate per point, or is ``None`` for undisturbed runs."""

    simulation: Simulation
    goodput: tuple[GoodputEstimate, ...] | None


@dataclass(frozen=True)
class Forecasts:
    """Every forecast for a request.

    Attributes:
        analysis: The analysed runs.
        rows: Forecasts by scaling laws, a row per curve and rank count.
        pipelines: Forecasts by pipeline stages.
        simulated: Simulated curves; empty if no curve can be simulated or no simulation was requested.
        resilience: Goodput under failures; empty if it was not requested.
        costs: Measured costs of checkpoints and restarts behind ``resilience``.
    """

    analysis: Analysis
    rows: tuple[PredictionRow, ...]
    pipelines: PipelineForecast
    simulated: tuple[SimulatedCurve, ...]
    resilience: tuple[Resilience, ...] = ()
    costs: MeasuredCosts | None = None


def make_forecasts(words: Sequence[str], runs_dir: Path, request: ForecastRequest) -> Forecasts:
    """Forecast the throughput of a study, or of runs, and record the forecasts in the folder of runs.

    Args:
        words: A study, a folder of runs, or runs, as for ``find_source``.
        runs_dir: Folder of the runs.
        request: The rank counts and pipelines.

    Raises:
        UserError: The runs do not exist, are too few, or are no pipelines although the request has micro-batches or
            stages.
    """
    source = find_source(words, runs_dir)
    analysis = read_and_settle(source, runs_dir, request.ranks)
    rows = tuple(prediction_rows(analysis.drawable))
    pipelines = _forecast_pipelines(analysis, request)
    refused = tuple(f"{curve.label}: {each.words}" for curve in analysis.drawable for each in curve.refused)
    costs, resilience = _resilience(analysis, request)
    if not rows and not pipelines.predictions and not resilience:
        raise UserError(
            "; ".join((*(refused or ("too few runs for a prediction",)), *pipelines.left_out)),
            where=source.title,
            remedy="run three rank counts or more, or a pipeline",
        )
    record_forecasts(analysis, runs_dir, pipelines.predictions)
    simulated = _simulate(analysis, request) if request.simulate else ()
    return Forecasts(analysis, rows, pipelines, simulated, resilience, costs)


def _resilience(analysis: Analysis, request: ForecastRequest) -> tuple[MeasuredCosts | None, tuple[Resilience, ...]]:
    if request.node_mtbf_seconds is None:
        return None, ()
    measured = [run for run in analysis.runs if isinstance(run, MeasuredRun)]
    costs = measure_costs(RunFolder(run.facts.path) for run in measured)
    if costs is None:
        problem = "no run measured both its checkpoints and its goodput"
        raise UserError(problem, where="--mtbf", remedy="complete a run that saves checkpoints with this version")
    per_node = max(run.facts.ranks // max(1, run.facts.nodes) for run in measured)
    return costs, forecast_resilience(costs, request.node_mtbf_seconds, request.ranks, max(1, per_node))


def _forecast_pipelines(analysis: Analysis, request: ForecastRequest) -> PipelineForecast:
    if request.micro_batches or request.stages:
        option = "--micro-batches" if request.micro_batches else "--stages"
        if not any(point.stages for curve in analysis.drawable for point in curve.points):
            raise UserError("no completed run is a pipeline", where=option, remedy="leave the option out")
    widening = analysis.pipeline_track.widening if analysis.pipeline_track else 1.0
    return forecast(analysis.drawable, request.ranks, request.micro_batches, request.stages, profiled_shares, widening)


def _simulate(analysis: Analysis, request: ForecastRequest) -> tuple[SimulatedCurve, ...]:
    simulations = (simulate_curve(curve, _not_refused(curve, request.ranks)) for curve in analysis.drawable)
    return tuple(
        SimulatedCurve(simulation, _goodput(simulation, request.interruptions))
        for simulation in simulations
        if simulation is not None
    )


def _not_refused(curve: Curve, ranks: Sequence[int]) -> tuple[int, ...]:
    refused = {each.ranks for each in curve.refused}
    return tuple(count for count in ranks if count not in refused)


def _goodput(simulation: Simulation, interruptions: Interruptions | None) -> tuple[GoodputEstimate, ...] | None:
    if interruptions is None:
        return None
    return tuple(_weekly_goodput(interruptions, point.simulated) for point in simulation.points)


def _weekly_goodput(interruptions: Interruptions, result: SimulationResult) -> GoodputEstimate:
    """The goodput of a week of steps."""
    steps = max(1, int(_WEEK_SECONDS / result.step_seconds))
    return estimate_goodput(interruptions, result.step_seconds, result.nodes, steps)
