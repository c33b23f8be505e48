"""Forecasts of a measured curve by the stack: the distribution at other rank counts, and what it rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp

import numpy as np

from saman.scaling.models.boundaries import Boundary, unmeasured
from saman.scaling.models.fitting import FEWEST_POINTS, Fit, fit
from saman.scaling.models.laws import Scaling, ScalingPoint
from saman.scaling.models.series import NOMINAL, SUPPORTED_RATIO
from saman.scaling.stack.distribution import ForecastDistribution
from saman.scaling.stack.rules import Rule, rule_log
from saman.scaling.stack.situations import STACK, situations
from saman.scaling.stack.weights import TrainedStack, shipped_stack


@dataclass(frozen=True)
class LawChoice:
    """The weights of the laws for a curve, and the fit of the heaviest law that has parameters.

    Attributes:
        weights: By name of the law; they sum to 1.
    """

    fit: Fit
    weights: Mapping[str, float]


@dataclass(frozen=True)
class ThroughputForecast:
    """Throughput in samples per second with its interval.

    Attributes:
        throughput: The median.
        low, high: The central 90 % interval.
        caution: Why to rely on it less; None without a reason.
        distribution: The whole distribution.
        cliff_probability: Probability of a loss at a boundary, measured or not, on the way.
        boundaries: Boundaries that no measured point lies beyond.
        expected: Throughput of the power law, from which a shortfall is counted.
        shortfall_probability: Probability of more than 15 % below ``expected``.
    """

    ranks: int
    nodes: int
    throughput: float
    low: float | None
    high: float | None
    caution: str | None
    distribution: ForecastDistribution
    cliff_probability: float
    boundaries: tuple[Boundary, ...]
    expected: float
    shortfall_probability: float


@dataclass(frozen=True)
class CurveForecast:
    """The forecasts of a curve with the weights behind them."""

    choice: LawChoice
    forecasts: tuple[ThroughputForecast, ...]


SHORTFALL = 0.15
# An alarm costs a look at a point, a miss costs the node-hours of a whole study: a chance of a quarter is enough.
ALARM_PROBABILITY = 0.25


def forecast_curve(
    points: tuple[ScalingPoint, ...],
    places: Sequence[ScalingPoint],
    scaling: Scaling = "weak",
    *,
    widening: float = 1.0,
    nodes_known: bool = True,
    stack: TrainedStack | None = None,
) -> CurveForecast | None:
    """Forecast a curve.

    Args:
        points: Measured points in ascending order of ranks.
        places: Ranks, nodes and boundaries to forecast; their throughput is ignored.
        scaling: Weak or strong.
        widening: Factor on the width of intervals, from the track record of the machine.
        nodes_known: Whether the nodes of the points are known.
        stack: Trained weights; the shipped ones by default.

    Returns:
        The forecasts in the order of ``places``; None below three points.
    """
    if len(points) < FEWEST_POINTS:
        return None
    pooled = stack or shipped_stack()
    wanted = list(places) or [points[-1]]  # weights need a place; they do not depend on it
    at = situations(points, wanted, scaling, nodes_known)
    far = [pooled.far if place.ranks > SUPPORTED_RATIO * points[-1].ranks else 1.0 for place in wanted]
    mixtures, chances = pooled.mixtures(at).widened(np.array(far)), pooled.cliff_probabilities(at)
    shares = dict(zip((law.name for law in STACK), map(float, pooled.law_weights(at)[0]), strict=True))
    found = tuple(
        _forecast(points, place, mixtures.row(index, widening), float(chances[index]), pooled.boundary_probability())
        for index, place in enumerate(places)
    )
    return CurveForecast(LawChoice(_heaviest(points, scaling, shares), shares), found)


def _heaviest(points: tuple[ScalingPoint, ...], scaling: Scaling, shares: Mapping[str, float]) -> Fit:
    fits = [fitted for law in STACK if law.has_parameters and (fitted := fit(law, points, scaling)) is not None]
    return max(fits, key=lambda fitted: shares[fitted.law.name])


def _forecast(
    points: tuple[ScalingPoint, ...],
    place: ScalingPoint,
    distribution: ForecastDistribution,
    cliff: float,
    boundary: float,
) -> ThroughputForecast:
    ahead = unmeasured(place.beyond, [point.beyond for point in points])
    expected = exp(rule_log(Rule.POWER_LAW, points, place.ranks))
    low, high = distribution.interval(NOMINAL)
    return ThroughputForecast(
        ranks=place.ranks,
        nodes=place.nodes,
        throughput=distribution.median,
        low=low,
        high=high,
        caution=_caution(points, place, ahead, boundary),
        distribution=distribution,
        cliff_probability=cliff,
        boundaries=ahead,
        expected=expected,
        shortfall_probability=distribution.below((1 - SHORTFALL) * expected),
    )


def _caution(
    points: Sequence[ScalingPoint], place: ScalingPoint, ahead: Sequence[Boundary], boundary: float
) -> str | None:
    largest = max(point.ranks for point in points)
    reasons = []
    if place.ranks > SUPPORTED_RATIO * largest:
        reasons.append(
            f"{place.ranks / largest:.3g} times the largest measured count ({largest}); "
            f"errors are known up to {SUPPORTED_RATIO:g} times"
        )
    if ahead:
        names = " and ".join(each.words for each in ahead)
        reasons.append(f"crosses {names} that was not measured; a loss there has a probability of {boundary:.0%}")
    return "beyond the data: " + "; ".join(reasons) if reasons else None
