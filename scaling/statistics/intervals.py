"""Intervals with their attained coverage: of a median from order statistics, of a proportion from the binomial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """An interval with its nominal coverage ``level`` and the coverage that it attains (by its method) ``attained``."""

    low: float
    high: float
    level: float
    attained: float
    method: str


@dataclass(frozen=True)
class Estimate:
    """A value with its interval, or with the reason for withholding an interval."""

    value: float
    repeats: int
    interval: Interval | None
    withheld: str | None = None


@dataclass(frozen=True)
class Quartiles:
    """A median with its quartiles (or its range, where said)."""

    value: float
    low: float
    high: float


@lru_cache(maxsize=4096)
def median_coverage(n: int, rank: int) -> float:
    """Coverage of (x₍rank₎, x₍n+1−rank₎) for the median of ``n`` values: 1 − 2·P(Bin(n, ½) < rank).

    Source: David & Nagaraja, Order Statistics (2003), §7.1. Exact for continuous distributions, else a lower bound.
    """
    from scipy.special import bdtr

    return 1.0 - 2.0 * float(bdtr(rank - 1, n, 0.5))


def best_median_coverage(n: int) -> float:
    """The highest coverage that any order-statistic interval of the median attains with ``n`` values: 1 − 2^(1−n)."""
    return median_coverage(n, 1) if n > 1 else 0.0


def median_estimate(values: Sequence[float] | NDArray[np.float64], level: float = LEVEL) -> Estimate:
    """The median with the shortest symmetric order-statistic interval of a coverage of at least ``level``.

    Args:
        values: Independent values, such as the throughput of repeats.
        level: Nominal coverage.

    Returns:
        The estimate; without interval where too few values reach ``level``.

    Raises:
        ValueError: No values, or values that are not finite.

    Example:
        >>> estimate = median_estimate([98.0, 99.0, 100.0, 101.0, 102.0, 104.0])
        >>> estimate.value, estimate.interval.low, estimate.interval.high, estimate.interval.attained
        (100.5, 98.0, 104.0, 0.96875)
        >>> median_estimate([98.0, 99.0, 100.0]).withheld
        'the range of 3 repeats covers 75.0%; a 95% interval of the median needs 6 repeats'
    """
    x = np.sort(np.asarray(values, dtype=float))
    n = len(x)
    if n == 0 or not np.all(np.isfinite(x)):
        raise ValueError(f"a median needs finite values; got {x.tolist()}")
    middle = float(np.median(x))
    ranks = [k for k in range(1, n // 2 + 1) if median_coverage(n, k) >= level]
    if not ranks:
        return Estimate(middle, n, None, _too_few(n, level))
    k = ranks[-1]
    found = Interval(
        float(x[k - 1]), float(x[n - k]), level, median_coverage(n, k), f"order statistics {k} and {n + 1 - k}"
    )
    return Estimate(middle, n, found)


def _too_few(n: int, level: float) -> str:
    needed = next(m for m in range(2, 64) if best_median_coverage(m) >= level)
    if n == 1:
        return f"a single repeat has no interval; a {level:.0%} interval of the median needs {needed} repeats"
    best = best_median_coverage(n)
    return f"the range of {n} repeats covers {best:.1%}; a {level:.0%} interval of the median needs {needed} repeats"


def binomial_interval(successes: float, trials: float, level: float = LEVEL) -> tuple[float, float]:
    """Compute the exact interval of a proportion (Clopper & Pearson, Biometrika 26, 1934).

    Args:
        successes: Number of successes; a fraction where trials depend on each other and fewer of them count.
        trials: Number of trials.
        level: Nominal coverage; the attained coverage is at least this.

    Returns:
        The lower and upper limit; (0, 1) without trials.

    Example:
        >>> [round(limit, 3) for limit in binomial_interval(9, 10)]
        [0.555, 0.997]
    """
    if trials == 0:
        return (0.0, 1.0)
    from scipy.special import betaincinv

    tail, failures = (1.0 - level) / 2.0, trials - successes
    low = float(betaincinv(successes, failures + 1, tail)) if successes else 0.0
    high = float(betaincinv(successes + 1, failures, 1.0 - tail)) if failures else 1.0
    return (low, high)


def weighted_quantiles(values: NDArray[np.float64], weights: NDArray[np.float64], tail: float) -> tuple[float, float]:
    """The interval between the quantiles ``tail`` and 1 − ``tail`` of weighted values.

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
