"""Scores recorded forecasts whose cells have been run since."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from math import exp, log
from statistics import median

import numpy as np

from saman.runs.forecast_log import ForecastLog, ForecastRecord, OutcomeRecord, Predictor
from saman.scaling.analysis.analysis import Analysis
from saman.scaling.analysis.points import CurvePoint
from saman.scaling.analysis.run_values import MeasuredRun
from saman.scaling.stack.distribution import ForecastDistribution
from saman.scaling.stack.forecast import SHORTFALL
from saman.scaling.stack.scores import interval_scores
from saman.scaling.track.pipeline_records import pipeline_points
from saman.scaling.track.records import cell_of, rests_on


def new_outcomes(analysis: Analysis, known: ForecastLog, now: float | None = None) -> tuple[OutcomeRecord, ...]:
    """Score the recorded forecasts whose cells have been run since.

    Only runs that started after the forecast and were not used for it count. A forecast that was recorded twice is
    scored once, as it was first made.

    Args:
        analysis: Of the runs at hand.
        known: The log of forecasts.
        now: Unix seconds of the score; now by default.
    """
    scored = {outcome.forecast for outcome in known.outcomes}
    found: dict[str, OutcomeRecord] = {}
    when = time.time() if now is None else now
    for record in known.forecasts:
        if record.id in scored or record.id in found:
            continue
        runs = [run for point in _points_of(analysis, record) for run in _later(point.runs, record)]
        if runs:
            found[record.id] = _outcome(record, runs, when)
    return tuple(found.values())


def _points_of(analysis: Analysis, record: ForecastRecord) -> Iterator[CurvePoint]:
    if record.predictor is Predictor.PIPELINES:
        yield from pipeline_points(analysis, record)
        return
    for curve in analysis.drawable:
        if cell_of(curve) == record.cell or rests_on(record, curve.group.runs):
            yield from (p for p in curve.points if (p.ranks, p.nodes) == (record.ranks, record.nodes))


def _later(runs: Sequence[MeasuredRun], record: ForecastRecord) -> list[MeasuredRun]:
    used = {run.id for run in record.runs}
    return [run for run in runs if run.facts.started > record.made and run.facts.id not in used]


def _outcome(record: ForecastRecord, runs: Sequence[MeasuredRun], now: float) -> OutcomeRecord:
    measured = median(run.measured.samples_per_second for run in runs)
    own = ForecastDistribution.from_json(record.distribution)
    rule = ForecastDistribution.from_json(record.power_law)
    return OutcomeRecord(
        forecast=record.id,
        scored=now,
        machine=record.machine,
        measured=measured,
        runs=tuple(run.facts.id for run in runs),
        inside=record.low <= measured <= record.high,
        miss=_miss(own, measured, record.level),
        log_score=own.log_score(measured),
        interval_score=_interval_score(own, measured, record.level),
        rule_log_score=rule.log_score(measured),
        rule_interval_score=_interval_score(rule, measured, record.level),
        short=measured < (1 - SHORTFALL) * exp(rule.locations[0]),
        alarm=record.alarm,
        predictor=record.predictor,
    )


def _miss(own: ForecastDistribution, measured: float, level: float) -> float:
    """Distance from the median in halves of the interval on that side, before widening."""
    low, high = own.interval(level)
    middle = own.median
    half = log(high / middle) if measured >= middle else log(middle / low)
    return abs(log(measured / middle)) / (half / own.widening)


def _interval_score(distribution: ForecastDistribution, measured: float, level: float) -> float:
    low, high = distribution.interval(level)
    return float(interval_scores(np.log([low]), np.log([high]), np.log([measured]), level)[0])
