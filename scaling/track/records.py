"""Makes records of forecasts by scaling laws."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from math import log

import numpy as np

import saman
from saman.runs.forecast_log import ForecastRecord, UsedRun
from saman.scaling.analysis.analysis import Analysis
from saman.scaling.analysis.curves import Curve
from saman.scaling.analysis.run_values import MeasuredRun
from saman.scaling.models.series import NOMINAL
from saman.scaling.stack.distribution import ForecastDistribution
from saman.scaling.stack.forecast import ALARM_PROBABILITY, ThroughputForecast
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
    runs = tuple(used_run(run) for point in curve.points for run in point.runs)
    distribution = ahead.distribution
    low, high = distribution.interval(NOMINAL)
    cell = cell_of(curve)
    facts = [cell, ahead.ranks, ahead.nodes, stack.table, *(run.content for run in runs)]
    return ForecastRecord(
        id=digest(facts),
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
    """A hash of what a rank count of a curve trains, and where: settings, batch, kind of scaling, hardware.

    Settings at their defaults are left out, so that a key that saman learns later does not change the hash.
    """
    facts = curve.group.runs[0].facts
    batch = facts.batch_per_rank if facts.scaling == "weak" else facts.global_batch
    settings = {key: str(value) for key, value in facts.identity.items()}
    return digest([settings, curve.group.scaling, batch, facts.cores_per_rank, facts.hardware])


def rests_on(record: ForecastRecord, runs: Sequence[MeasuredRun]) -> bool:
    """Whether a forecast was made from any of these runs: their curve then answers it, whatever its hash is today."""
    used = {(run.id, run.digest) for run in record.runs}
    return any((run.facts.id, run.facts.digest) in used for run in runs)


def used_run(run: MeasuredRun) -> UsedRun:
    """A run that a forecast rests on."""
    facts = run.facts
    return UsedRun(facts.id, facts.digest, digest([facts.id, facts.digest, run.measured.samples_per_second]))


def digest(value: object) -> str:
    """A short hash of plain values of a record."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:_HASH_LENGTH]
