"""Intervals that state what they attain: of a median from order statistics, of a proportion from the binomial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """An interval with the coverage it was asked for and the coverage it attains (or is meant to, by its method)."""

    low: float
    high: float
    level: float
    attained: float
    method: str


@dataclass(frozen=True)
class Estimate:
    """A value with its interval, or with the reason why an interval is withheld."""

    value: float
    repeats: int
    interval: Interval | None
    withheld: str | None = None


def median_coverage(n: int, rank: int) -> float:
    """Coverage of (x₍rank₎, x₍n+1−rank₎) for the median: 1 − 2·P(Bin(n, ½) < rank).

    Source: David & Nagaraja, Order Statistics (2003), §7.1. Exact for continuous distributions, else a lower bound.
    """
    return 1.0 - 2.0 * sum(comb(n, i) for i in range(rank)) / 2.0**n


def best_median_coverage(n: int) -> float:
    """The highest coverage that any order-statistic interval of the median attains with ``n`` values: 1 − 2^(1−n)."""
    return median_coverage(n, 1) if n > 1 else 0.0


def median_estimate(values: Sequence[float] | NDArray[np.float64], level: float = LEVEL) -> Estimate:
    """The median of ``values`` with the shortest symmetric order-statistic interval that attains ``level``.

    Where none attains it the interval is withheld and the best attainable level is named. Raises ``ValueError`` for
    no values or values that are not finite.
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
        return f"a single repeat has no interval; {needed} repeats give a {level:.0%} interval of the median"
    best = best_median_coverage(n)
    return f"{n} repeats attain at most {best:.1%} (their range); {needed} give a {level:.0%} interval of the median"


def binomial_interval(successes: int, trials: int, level: float = LEVEL) -> tuple[float, float]:
    """Exact interval of a proportion (Clopper & Pearson, Biometrika 26, 1934); (0, 1) without trials."""
    if trials == 0:
        return (0.0, 1.0)
    tail = (1.0 - level) / 2.0
    low = 0.0 if successes == 0 else float(betaincinv(successes, trials - successes + 1, tail))
    high = 1.0 if successes == trials else float(betaincinv(successes + 1, trials - successes, 1.0 - tail))
    return (low, high)
