"""Widths beyond the distance that the stack learns from: factors by cross-conformal prediction over sources.

The stack's scale grows with a power of the distance. Beyond four times the largest known count few published curves
go on, and that power is too small; the misses of forecasts whose source was left out give a factor (cross-conformal
prediction: Vovk, Ann. Math. Artif. Intell. 74, 2015; whole sources as folds).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from saman.scaling.models.series import NOMINAL
from saman.scaling.stack.training import ForecastCases, source_weights

Array = NDArray[np.float64]
_FEWEST_SOURCES = 3


def interval_misses(low: Array, middle: Array, high: Array, outcomes: Array) -> Array:
    """|outcome − median| ÷ the half of the interval on that side; above 1 is outside."""
    half = np.where(outcomes >= middle, high - middle, middle - low)
    return np.asarray(np.abs(outcomes - middle) / half)


def far_widening(misses: Array, sources: NDArray[np.str_], level: float = NOMINAL) -> float:
    """The factor on intervals of distant forecasts, from misses of such forecasts of other sources.

    Args:
        misses: Of forecasts beyond four times the largest known count, each source left out of the training.
        sources: Source of each.
        level: Coverage of the intervals.

    Returns:
        The quantile of the misses, sources weighted as in the training; 1 with fewer than three sources, at least 1.
    """
    if len(set(sources)) < _FEWEST_SOURCES:
        return 1.0
    order = np.argsort(misses)
    share = np.cumsum(source_weights(sources)[order]) / len(misses)
    return max(1.0, float(misses[order][min(int(np.searchsorted(share, level)), len(misses) - 1)]))


def cross_widenings(misses: Array, cases: ForecastCases, distant: NDArray[np.bool_]) -> Array:
    """The factor of each forecast: 1 unless it is distant, else from distant forecasts of other sources."""
    sources, factors = cases.sources, np.ones(len(misses))
    for source in set(sources[distant]):
        others = distant & (sources != source)
        factors[distant & (sources == source)] = far_widening(misses[others], sources[others])
    return factors
