"""Forecasts beyond the measured ranks: choice of the law, calibrated intervals, cautions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from saman.scaling.models.fitting import FEWEST_POINTS, LAWS, AheadError, Fit, errors_ahead, fit
from saman.scaling.models.laws import Law, Scaling, ScalingPoint

Array = NDArray[np.float64]
NOMINAL = 0.9
SUPPORTED_RATIO = 4.0  # errors are checked up to this multiple of the largest fitted count
# Weight of other sources relative to a curve's own errors ahead: that of as many errors as the fewest points of a
# fit. docs/scaling.md shows that 1 to 10 give the same results.
_PRIOR_WEIGHT = 3.0
_LEAST_DOUBLINGS = 0.25


@dataclass(frozen=True)
class ScalingSeries:
    """A published or measured curve for judging predictions."""

    source: str
    id: str
    points: tuple[ScalingPoint, ...]
    scaling: Scaling = "weak"


@dataclass(frozen=True)
class LawChoice:
    """The fit of the chosen law, and every law's score: its expected |ln error| ahead."""

    fit: Fit
    scores: dict[str, float]


@dataclass(frozen=True)
class Calibration:
    """Quantiles of ln(measured ÷ predicted) ÷ √doublings over other sources of equal weight."""

    low: float
    high: float
    nominal: float
    errors: int
    sources: int


@dataclass(frozen=True)
class ThroughputForecast:
    """Throughput in samples per second with its interval; ``caution`` says why not to rely on it."""

    ranks: int
    nodes: int
    throughput: float
    low: float | None
    high: float | None
    caution: str | None


def choose(
    points: tuple[ScalingPoint, ...], others: Sequence[ScalingSeries], scaling: Scaling = "weak"
) -> LawChoice | None:
    """Choose the law with the smallest expected error ahead.

    A law's score is the mean of its errors ahead on this curve and its mean error on other sources, which weighs as
    much as three errors: few points alone cannot choose.

    Args:
        points: The measured curve.
        others: Curves of other sources.
        scaling: Weak or strong.

    Returns:
        The choice; None below three points.
    """
    if len(points) < FEWEST_POINTS:
        return None
    scores: dict[str, float] = {}
    fits: dict[str, Fit] = {}
    for law in LAWS:
        fitted = fit(law, points, scaling)
        if fitted is None:
            continue
        own = [abs(error.error) for error in errors_ahead(law, points, scaling)]
        prior = _mean_error(law, tuple(others))
        weight = _PRIOR_WEIGHT if prior is not None else 0.0
        if own or weight:
            scores[law.name] = (sum(own) + weight * (prior or 0.0)) / (len(own) + weight)
        else:
            scores[law.name] = float(np.std(fitted.residuals))
        fits[law.name] = fitted
    best = min(scores, key=lambda name: scores[name])
    return LawChoice(fits[best], scores)


@lru_cache(maxsize=1024)
def _mean_error(law: Law, others: tuple[ScalingSeries, ...]) -> float | None:
    """Mean |ln error| of ``law`` at up to 4× on ``others``, with equal weight of the sources."""
    by_source: dict[str, list[float]] = defaultdict(list)
    for track in others:
        for error in errors_ahead(law, track.points, track.scaling):
            if error.ranks <= SUPPORTED_RATIO * error.fitted_to:
                by_source[track.source].append(abs(error.error))
    return float(np.mean([np.mean(errors) for errors in by_source.values()])) if by_source else None


def chosen_errors(track: ScalingSeries, others: Sequence[ScalingSeries]) -> list[AheadError]:
    """Errors ahead of the chosen law at every origin of ``track``; the choice sees ``others`` and the points before."""
    found = []
    for count in range(FEWEST_POINTS, len(track.points)):
        choice = choose(track.points[:count], others, track.scaling)
        if choice is None:
            continue
        ahead = track.points[count:]
        for point, value in zip(ahead, choice.fit.throughput(ahead), strict=True):
            error = float(np.log(point.throughput / value))
            found.append(AheadError(track.points[count - 1].ranks, point.ranks, error))
    return found


@lru_cache(maxsize=64)
def calibrate(others: tuple[ScalingSeries, ...], nominal: float = NOMINAL) -> Calibration | None:
    """Calibrate intervals by predictions on ``others``, each made without its own source.

    Args:
        others: Published curves.
        nominal: Coverage of the intervals.

    Returns:
        The calibration; None without predictions.
    """
    values: list[float] = []
    weights: list[float] = []
    counted = 0
    for source in sorted({track.source for track in others}):
        rest = [track for track in others if track.source != source]
        ahead = [error for track in others if track.source == source for error in chosen_errors(track, rest)]
        errors = [error for error in ahead if error.ranks <= SUPPORTED_RATIO * error.fitted_to]
        if not errors:
            continue
        counted += 1
        values += [error.error / np.sqrt(np.log2(error.ranks / error.fitted_to)) for error in errors]
        weights += [1.0 / len(errors)] * len(errors)
    if not values:
        return None
    tail = (1.0 - nominal) / 2.0
    low, high = weighted_quantiles(np.array(values), np.array(weights), tail)
    return Calibration(low, high, nominal, len(values), counted)


def weighted_quantiles(values: Array, weights: Array, tail: float) -> tuple[float, float]:
    """Compute the quantiles ``tail`` and 1 − ``tail`` of weighted values, so that 0 lies between them.

    Args:
        values: Log errors, shape (n,).
        weights: Their positive weights, shape (n,); they need not sum to 1.
        tail: Share of the weight below the lower quantile, and above the upper quantile.

    Returns:
        The lower quantile, at most 0, and the upper quantile, at least 0.
    """
    order = np.argsort(values)
    share = np.cumsum(weights[order]) / weights.sum()
    last = len(values) - 1
    low = values[order][min(int(np.searchsorted(share, tail)), last)]
    high = values[order][min(int(np.searchsorted(share, 1.0 - tail)), last)]
    return min(float(low), 0.0), max(float(high), 0.0)


def predict(fitted: Fit, places: Sequence[ScalingPoint], calibration: Calibration | None) -> list[ThroughputForecast]:
    """Predict throughput at other ranks and nodes.

    Args:
        fitted: The fitted law.
        places: Ranks and nodes to predict; their throughput is ignored.
        calibration: Quantiles of the log errors of past predictions, each divided by the square root of its
            doublings; the interval widens by the same root. ``None`` for no intervals.

    Returns:
        A forecast in samples per second for each place, with a caution where it leaves the measured range.
    """
    return [
        _prediction(fitted, point, float(value), calibration)
        for point, value in zip(places, fitted.throughput(places), strict=True)
    ]


def _prediction(fitted: Fit, place: ScalingPoint, value: float, calibration: Calibration | None) -> ThroughputForecast:
    nearest = min(abs(np.log2(place.ranks / point.ranks)) for point in fitted.points)
    width = float(np.sqrt(max(nearest, _LEAST_DOUBLINGS)))
    low = high = None
    if calibration is not None:
        low, high = value * float(np.exp(calibration.low * width)), value * float(np.exp(calibration.high * width))
    return ThroughputForecast(place.ranks, place.nodes, value, low, high, _caution(fitted, place))


def _caution(fitted: Fit, place: ScalingPoint) -> str | None:
    largest = max(point.ranks for point in fitted.points)
    most_nodes = max(point.nodes for point in fitted.points)
    reasons = []
    if place.ranks > SUPPORTED_RATIO * largest:
        reasons.append(
            f"{place.ranks / largest:.3g} times the largest measured count ({largest}); "
            f"errors are known up to {SUPPORTED_RATIO:g} times"
        )
    if place.nodes > 1 and most_nodes == 1:
        reasons.append("crosses a node boundary that was not measured")
    return "beyond the data: " + "; ".join(reasons) if reasons else None
