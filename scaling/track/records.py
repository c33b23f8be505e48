"""Makes records of forecasts, and of their outcomes when the forecast cells have been run."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from math import exp, log
from statistics import median

import numpy as np

import saman
from saman.runs.forecast_log import ForecastLog, ForecastRecord, OutcomeRecord, UsedRun
from saman.scaling.analysis.analysis import Analysis
from saman.scaling.analysis.curves import Curve
from saman.scaling.analysis.points import CurvePoint
from saman.scaling.analysis.run_values import MeasuredRun
from saman.scaling.models.series import NOMINAL
from saman.scaling.stack.distribution import ForecastDistribution
from saman.scaling.stack.forecast import ALARM_PROBABILITY, SHORTFALL, ThroughputForecast
from saman.scaling.stack.scores import interval_scores
from saman.scaling.stack.weights import TrainedStack

_HASH_LENGTH = 24


def forecast_records(analysis: Analysis, made: float | None = None) -> tuple[ForecastRecord, ...]:
    """A record of each forecast of an analysis whose cell has no run yet.

    Args:
        analysis: With its predictions.
        made: Unix seconds; now by default.
    """
    if analysis.stack is None:
        return ()
    now = time.time() if made is None else made
    return tuple(
        _record(curve, ahead, analysis.stack, now)
        for curve in analysis.drawable
        for ahead in curve.predictions
        if (ahead.ranks, ahead.nodes) not in curve.group.points
    )


def _record(curve: Curve, ahead: ThroughputForecast, stack: TrainedStack, made: float) -> ForecastRecord:
    runs = tuple(_used(run) for point in curve.points for run in point.runs)
    distribution = ahead.distribution
    low, high = distribution.interval(NOMINAL)
    cell = cell_of(curve)
    facts = [cell, ahead.ranks, ahead.nodes, stack.table, *(run.content for run in runs)]
    return ForecastRecord(
        id=_digest(facts),
        made=made,
        saman=saman.__version__,
        weights=stack.table,
        machine=machine_of(curve),
        cell=cell,
        series=curve.label,
        ranks=ahead.ranks,
        nodes=ahead.nodes,
        level=NOMINAL,
        median=distribution.median,
        low=low,
        high=high,
        distribution=distribution.to_json(),
        power_law=_power_law(curve, ahead, stack).to_json(),
        shortfall_probability=ahead.shortfall_probability,
        alarm=ahead.shortfall_probability >= ALARM_PROBABILITY,
        cliff_probability=ahead.cliff_probability,
        boundaries=tuple(boundary.value for boundary in ahead.boundaries),
        runs=runs,
    )


def _power_law(curve: Curve, ahead: ThroughputForecast, stack: TrainedStack) -> ForecastDistribution:
    """The distribution of the power law: its line, with the width learned like that of the stack."""
    doublings = max(min(abs(float(np.log2(ahead.ranks / point.ranks))) for point in curve.points), 0.25)
    width = stack.power_law
    scale = float(width.scales(np.array([doublings]))[0])
    return ForecastDistribution((1.0,), (log(ahead.expected),), (scale,), (width.degrees,))


def machine_of(curve: Curve) -> str:
    """The hardware by which the track record tells machines apart."""
    return curve.group.runs[0].facts.hardware


def cell_of(curve: Curve) -> str:
    """A hash of what a rank count of a curve trains, and where: settings, batch, kind of scaling, hardware."""
    facts = curve.group.runs[0].facts
    batch = facts.batch_per_rank if facts.scaling == "weak" else facts.global_batch
    settings = {key: str(value) for key, value in curve.group.settings.items()}
    return _digest([settings, curve.group.scaling, batch, facts.cores_per_rank, facts.hardware])


def _used(run: MeasuredRun) -> UsedRun:
    facts = run.facts
    return UsedRun(facts.id, facts.digest, _digest([facts.id, facts.digest, run.measured.samples_per_second]))


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:_HASH_LENGTH]


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
    for curve in analysis.drawable:
        if cell_of(curve) == record.cell:
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
