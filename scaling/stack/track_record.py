"""The track record of forecasts on a machine: what their intervals held, and how wide the next ones must be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import mean

import numpy as np

from saman.runs.forecast_log import ForecastLog, OutcomeRecord, Predictor
from saman.scaling.models.series import NOMINAL
from saman.scaling.stack.weights import TrainedStack, shipped_stack

# Published forecasts count as so many outcomes of the machine: one wrong forecast moves the width, ten decide it.
_PUBLISHED_WEIGHT = 20.0
_NARROWEST, _WIDEST = 0.5, 4.0
PIPELINE_DEGREES = 4.0  # of the distribution of a pipeline's forecast; its interval comes from a few cells left out


@dataclass(frozen=True)
class TrackRecord:
    """Outcomes of forecasts that were recorded before the runs.

    Attributes:
        machine: The hardware.
        inside: Intervals that held the outcome, of ``intervals``.
        skill: 1 − interval scores ÷ those of the power law; above 0 is better than the power law.
        log_score_gain: Mean gain in log score over the power law, in nats. For pipelines the simple rule is a power
            law of the replicas, or constant efficiency where only a single count was measured.
        hits, misses, false_alarms: Alarms raised before the point was measured.
        widening: Factor on the width of the next intervals.
        open: Forecasts whose cell was not run yet.
        broken: Lines of the log that were changed after they were written.
    """

    machine: str
    intervals: int
    inside: int
    skill: float | None
    log_score_gain: float | None
    hits: int
    misses: int
    false_alarms: int
    widening: float
    open: int
    broken: int
    predictor: Predictor = Predictor.LAWS

    @property
    def sentence(self) -> str:
        """The record in words, for a report."""
        pipelines = self.predictor is Predictor.PIPELINES
        what = "pipelines on this machine" if pipelines else "this machine"
        if not self.intervals:
            waiting = f"; {self.open} recorded forecasts wait for their runs" if self.open else ""
            return f"No recorded forecast of {what} was run yet{waiting}."
        rule = "a power law of the replicas" if pipelines else "a power law"
        skill = "" if self.skill is None else f"; skill over {rule} {self.skill:+.0%}"
        alarms = f"{self.hits} hits, {self.misses} misses, {self.false_alarms} false"
        factor = f"; intervals are now {self.widening:.2f} times as wide" if self.widening != 1 else ""
        changed = f"; {self.broken} lines of the log were changed afterwards" if self.broken else ""
        return (
            f"Forecasts of {what}: inside {self.inside} of {self.intervals} intervals of {NOMINAL:.0%}{skill}; "
            f"alarms {alarms}{factor}{changed}."
        )


def track_record(
    log: ForecastLog, machine: str, stack: TrainedStack | None = None, predictor: Predictor = Predictor.LAWS
) -> TrackRecord:
    """Summarise the outcomes of a predictor on a machine.

    Args:
        log: Forecasts and outcomes of a folder of runs.
        machine: Its hardware, as runs record it.
        stack: The weights whose intervals adapt; the shipped ones by default.
        predictor: The laws of curves, or the model of pipelines.
    """
    outcomes = [each for each in log.outcomes if (each.machine, each.predictor) == (machine, predictor)]
    scored = {each.forecast for each in log.outcomes}
    waiting = {each.id for each in log.forecasts if (each.machine, each.predictor) == (machine, predictor)} - scored
    published = (stack or shipped_stack()).misses if predictor is Predictor.LAWS else _right_misses()
    return TrackRecord(
        machine=machine,
        intervals=len(outcomes),
        inside=sum(each.inside for each in outcomes),
        skill=_skill(outcomes),
        log_score_gain=mean(each.log_score - each.rule_log_score for each in outcomes) if outcomes else None,
        hits=sum(each.alarm and each.short for each in outcomes),
        misses=sum(each.short and not each.alarm for each in outcomes),
        false_alarms=sum(each.alarm and not each.short for each in outcomes),
        widening=conformal_widening([each.miss for each in outcomes], published),
        open=len(waiting),
        broken=log.broken,
        predictor=predictor,
    )


def _skill(outcomes: Sequence[OutcomeRecord]) -> float | None:
    rule = sum(each.rule_interval_score for each in outcomes)
    return 1 - sum(each.interval_score for each in outcomes) / rule if rule else None


def conformal_widening(misses: Sequence[float], published: Sequence[float], level: float = NOMINAL) -> float:
    """The factor on the width of intervals after ``misses`` on a machine.

    Weighted split conformal prediction: the quantile of past misses, in halves of the interval, with a point at
    infinity for the next outcome; published misses weigh as much as 20 outcomes (Lei et al., JASA 113, 2018; weights:
    Barber et al., Annals of Statistics 51, 2023). Relative to the same quantile of the published misses alone, so that
    a machine without outcomes has a factor of 1.

    Args:
        misses: |ln(measured ÷ median)| ÷ half of the interval without widening, of each outcome.
        published: The same of published forecasts.
        level: Coverage of the intervals.
    """
    if not misses:
        return 1.0
    known = np.array(published)
    each = np.full(len(known), _PUBLISHED_WEIGHT / len(known))
    alone = _quantile(known, each, level)
    both = _quantile(np.append(known, misses), np.append(each, np.ones(len(misses))), level)
    return float(np.clip(both / alone, _NARROWEST, _WIDEST))


def _quantile(values: np.typing.NDArray[np.float64], weights: np.typing.NDArray[np.float64], level: float) -> float:
    """The smallest value with at least ``level`` of the weight, with a weight of 1 at infinity."""
    order = np.argsort(values)
    share = np.cumsum(weights[order]) / (weights.sum() + 1)
    return float(values[order][min(int(np.searchsorted(share, level)), len(values) - 1)])


@cache
def _right_misses() -> tuple[float, ...]:
    """The misses of a forecaster with the right distribution: a machine without outcomes of pipelines starts there."""
    from scipy.special import stdtrit

    nominal = stdtrit(PIPELINE_DEGREES, (1 + NOMINAL) / 2)
    return tuple(float(stdtrit(PIPELINE_DEGREES, (1 + share) / 2) / nominal) for share in (np.arange(100) + 0.5) / 100)
