"""Scores of forecast distributions, and lower bounds of their differences, clustered by source.

Log score and interval score are proper (Gneiting & Raftery, JASA 102, 2007): no forecaster gains by stating what
it does not believe. Both are of log throughput, so that curves of different rates count alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saman.scaling.statistics.intervals import binomial_interval

Array = NDArray[np.float64]
ONE_SIDED = 0.95
_TWO_SIDED = 0.975
_FEWEST_SOURCES = 3


def interval_scores(low: Array, high: Array, outcomes: Array, level: float) -> Array:
    """Winkler's interval score: the width, plus 2/(1 − level) times the distance of an outcome outside (JASA 67, 1972).

    Args:
        low: Lower limits, in logarithms.
        high: Upper limits.
        outcomes: Outcomes.
        level: Coverage of the intervals.

    Returns:
        A score per forecast; smaller is better.

    >>> interval_scores(np.array([0.0]), np.array([1.0]), np.array([1.5]), 0.9).round(6).tolist()
    [11.0]
    """
    outside = np.maximum(low - outcomes, 0) + np.maximum(outcomes - high, 0)
    return np.asarray(high - low + 2 / (1 - level) * outside)


@dataclass(frozen=True)
class Gain:
    """A mean gain with its one-sided lower bound; ``lower`` is None with fewer than three sources."""

    value: float
    lower: float | None
    sources: int


def clustered_share(hits: NDArray[np.bool_], sources: NDArray[np.str_]) -> tuple[float, float]:
    """The 95 % interval of a score, such as coverage, where forecasts of a source depend on each other.

    Clopper–Pearson with the effective number of forecasts that the spread over sources gives (jackknife), degrees of
    freedom corrected (Korn & Graubard, Survey Methodology 24, 1998). Without any spread (all hit, or none) each source
    counts once: what its forecasts share is then unknown.

    Args:
        hits: Whether each forecast counts.
        sources: Source of each.
    """
    from scipy.special import stdtrit

    names, count, share = np.unique(sources), len(hits), float(hits.mean())
    effective = float(len(names))
    if 0 < share < 1 and len(names) >= _FEWEST_SOURCES:
        without = np.array([hits[sources != name].mean() for name in names])
        variance = (len(names) - 1) / len(names) * float(((without - share) ** 2).sum())
        degrees = float(stdtrit(count - 1, _TWO_SIDED) / stdtrit(len(names) - 1, _TWO_SIDED)) ** 2
        effective = min(max(share * (1 - share) / max(variance, 1e-12) * degrees, effective), float(count))
    return binomial_interval(share * effective, effective)


def clustered_gain(gains: Array, sources: NDArray[np.str_], per: Array | None = None) -> Gain:
    """The mean gain in score per forecast, or Σ gains ÷ Σ ``per``, with a lower 95 % bound over sources.

    Forecasts of a source depend on each other, so the unit is a source: jackknife over sources with Student's t
    (Bell & McCaffrey, Survey Methodology 28, 2002). With few sources it is wider than a bootstrap over sources.

    Args:
        gains: Gains, shape (n,).
        sources: Source of each.
        per: What the sum of gains is divided by, shape (n,); by default the number of forecasts.
    """
    from scipy.special import stdtrit

    per = np.ones(len(gains)) if per is None else per
    value = float(gains.sum() / per.sum())
    names = np.unique(sources)
    count = len(names)
    if count < _FEWEST_SOURCES:
        return Gain(value, None, count)
    without = np.array([gains[sources != name].sum() / per[sources != name].sum() for name in names])
    error = np.sqrt((count - 1) / count * ((without - value) ** 2).sum())
    return Gain(value, value - float(stdtrit(count - 1, ONE_SIDED)) * float(error), count)
