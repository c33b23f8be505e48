"""Makes records of forecasts of pipelines, and finds the points that answer them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp, log, log2

import numpy as np

import saman
from saman.runs.forecast_log import ForecastRecord, Predictor
from saman.scaling.analysis.analysis import Analysis
from saman.scaling.analysis.points import CurvePoint
from saman.scaling.models.series import NOMINAL
from saman.scaling.pipelines.cases import Case, cases_of
from saman.scaling.pipelines.forecast import PipelineThroughput
from saman.scaling.stack.distribution import ForecastDistribution
from saman.scaling.stack.forecast import ALARM_PROBABILITY, SHORTFALL
from saman.scaling.stack.track_record import PIPELINE_DEGREES
from saman.scaling.stack.weights import TrainedStack, shipped_stack
from saman.scaling.track.records import digest, machine_of, rests_on, used_run

_LEAST_DOUBLINGS = 0.25


@dataclass(frozen=True)
class SimpleRule:
    """What a forecast of a pipeline is compared with, in words and as a rate in samples per second."""

    words: str
    rate: float
    doublings: float


def pipeline_records(
    analysis: Analysis, predictions: Sequence[PipelineThroughput], made: float | None = None
) -> tuple[ForecastRecord, ...]:
    """A record of each forecast of a pipeline that has no run yet.

    Args:
        analysis: The runs behind the predictions, with the track record that widened them.
        predictions: The forecasts.
        made: Unix seconds; now by default.
    """
    now = time.time() if made is None else made
    cases = {case.key: case for case in cases_of(analysis.drawable)}
    widening = analysis.pipeline_track.widening if analysis.pipeline_track else 1.0
    stack = analysis.stack or shipped_stack()
    return tuple(
        _record(cases[ahead.case], ahead, stack, widening, now) for ahead in predictions if ahead.measured is None
    )


def pipeline_points(analysis: Analysis, record: ForecastRecord) -> Iterator[CurvePoint]:
    """The measured points of the pipeline that a record forecasts."""
    wanted = (record.stages, record.micro_batches, record.ranks, record.nodes)
    for case in cases_of(analysis.drawable):
        if _cell(case) == record.cell or rests_on(record, [run for entry in case.points for run in entry.point.runs]):
            for entry in case.points:
                shape = entry.measured.shape
                if (shape.stages, shape.micro_batches, shape.ranks, shape.nodes) == wanted:
                    yield entry.point


def _record(case: Case, ahead: PipelineThroughput, stack: TrainedStack, widening: float, made: float) -> ForecastRecord:
    runs = tuple(used_run(run) for entry in case.points for run in entry.point.runs)
    own = _distribution(ahead, widening)
    rule = simple_rule(case, ahead)
    scale = float(stack.power_law.scales(np.array([rule.doublings]))[0])
    shortfall = own.below((1 - SHORTFALL) * rule.rate)
    cell, shape = _cell(case), (ahead.stages, ahead.micro_batches, ahead.ranks, ahead.nodes)
    low, high = own.interval(NOMINAL)
    return ForecastRecord(
        id=digest([cell, *shape, *(run.content for run in runs)]),
        made=made,
        saman=saman.__version__,
        weights=stack.table,
        machine=machine_of(case.points[0].curve),
        cell=cell,
        series=f"{ahead.series} stages {ahead.stages} micro batches {ahead.micro_batches}",
        ranks=ahead.ranks,
        nodes=ahead.nodes,
        level=NOMINAL,
        median=own.median,
        low=low,
        high=high,
        distribution=own.to_json(),
        power_law=ForecastDistribution((1.0,), (log(rule.rate),), (scale,), (stack.power_law.degrees,)).to_json(),
        shortfall_probability=shortfall,
        alarm=shortfall >= ALARM_PROBABILITY,
        cliff_probability=0.0,
        boundaries=(),
        runs=runs,
        predictor=Predictor.PIPELINES,
        rule=rule.words,
        stages=ahead.stages,
        micro_batches=ahead.micro_batches,
    )


def _distribution(ahead: PipelineThroughput, widening: float) -> ForecastDistribution:
    """Student t around the forecast, whose central interval is that of the forecast."""
    from scipy.special import stdtrit

    half = log(ahead.high / ahead.samples_per_second) / widening
    scale = half / float(stdtrit(PIPELINE_DEGREES, (1 + NOMINAL) / 2))
    return ForecastDistribution((1.0,), (log(ahead.samples_per_second),), (scale,), (PIPELINE_DEGREES,), widening)


def simple_rule(case: Case, ahead: PipelineThroughput) -> SimpleRule:
    """The simple rule beside a recorded pipeline forecast: a power law in the same grid, or constant efficiency.

    Where no cell has the same stages and micro-batches, the nearest cell in doublings keeps its rate per rank.
    """
    alike = [
        cell for cell in case.cells
        if (cell.shape.stages, cell.shape.micro_batches) == (ahead.stages, ahead.micro_batches)
    ]  # fmt: skip
    counts = {cell.shape.ranks for cell in alike}
    if len(counts) > 1:
        ranks = np.log([cell.shape.ranks for cell in alike])
        slope, level = np.polyfit(ranks, np.log([cell.rate for cell in alike]), 1)
        near = min(abs(log2(ahead.ranks / count)) for count in counts)
        rate = exp(float(level + slope * log(ahead.ranks)))
        return SimpleRule("power law of the replicas", rate, max(near, _LEAST_DOUBLINGS))

    def distance(shape_stages: int, micro_batches: int, ranks: int) -> float:
        pairs = ((ahead.stages, shape_stages), (ahead.micro_batches, micro_batches), (ahead.ranks, ranks))
        return sum(abs(log2(wanted / known)) for wanted, known in pairs)

    nearest = min(
        alike or case.cells, key=lambda cell: distance(cell.shape.stages, cell.shape.micro_batches, cell.shape.ranks)
    )
    apart = distance(nearest.shape.stages, nearest.shape.micro_batches, nearest.shape.ranks)
    rate = nearest.rate * ahead.ranks / nearest.shape.ranks
    return SimpleRule("the nearest cell's rate per rank", rate, max(apart, _LEAST_DOUBLINGS))


def _cell(case: Case) -> str:
    facts = case.points[0].point.runs[0].facts
    return digest([case.key, facts.cores_per_rank, facts.hardware])
