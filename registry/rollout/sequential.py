"""Tests that stay valid when somebody looks after every request. Pure.

Each test is an e-process: a non-negative process that starts at 1 and whose expectation is at most 1 at every stopping
time while the null hypothesis holds. Ville's inequality (1939) bounds the probability that it ever reaches 1/α by α, so
the time of the look does not matter. All e-processes here depend on counts alone. The counts of several servers may
therefore be added, and the functions take whole arrays of counts (leading axes).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincc, betaln, logsumexp, xlog1py, xlogy

Counts = NDArray[np.int64]
Reals = NDArray[np.float64]

# Bets as parts of the largest allowed. The best bet is about effect ÷ variance; the mixture pays the logarithm of the
# weight of the bets near it.
BETS: Reals = np.geomspace(0.01, 0.95, 20)
_LOG_WEIGHT = -float(np.log(len(BETS)))
_BISECTIONS = 40
_QUANTILE_PRIOR = 50.0  # observations that the prior of a quantile's level counts for


def log_mean_evidence(counts: Counts, values: Reals, null: float) -> Any:
    """Log e-value against "the mean of differences in [-1, 1] is at most ``null``".

    Capital of a mixture of constant bets: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by
    betting" (JRSS B 86, 2024), Theorem 1 and section 5.1. It requires only that each difference has conditional mean at
    most ``null`` given the past.

    Args:
        counts: How often each value occurred, on the last axis.
        values: The values.
        null: The hypothetical mean, inside (-1, 1).
    """
    stakes = BETS / (1.0 + null)
    gains = np.log1p(np.multiply.outer(np.asarray(values, dtype=float) - null, stakes))
    return logsumexp(np.asarray(counts, dtype=float) @ gains, axis=-1) + _LOG_WEIGHT


def mean_interval(counts: Counts, values: Reals, alpha: float) -> tuple[float, float]:
    """Confidence sequence of the mean of differences in [-1, 1]: the means that neither side's e-process excludes.

    Same source as ``log_mean_evidence``; the e-value falls as the hypothetical mean grows, so bisection finds
    the ends.

    Args:
        counts: How often each value occurred.
        values: The values.
        alpha: Probability that the sequence ever misses the mean.
    """
    lower = _lowest_mean(counts, values, alpha / 2)
    return lower, -_lowest_mean(counts, -values, alpha / 2)


def _lowest_mean(counts: Counts, values: Reals, alpha: float) -> float:
    low, high = -1.0 + 1e-9, 1.0 - 1e-9
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        is_excluded = log_mean_evidence(counts, values, middle) >= -np.log(alpha)
        low, high = (middle, high) if is_excluded else (low, middle)
    return low if low > -1.0 + 1e-9 else -1.0


def log_rate_evidence(hits: Any, trials: Any, limit: float) -> Any:
    """Log e-value against "the rate is at most ``limit``".

    Likelihood ratio of a uniform mixture of the rates above the limit: the beta-binomial mixture of Robbins (Annals of
    Mathematical Statistics 41, 1970); Howard, Ramdas, McAuliffe and Sekhon, "Time-uniform, nonparametric,
    nonasymptotic confidence sequences" (Annals of Statistics 49, 2021), section 3.2.

    Args:
        hits: Number of hits.
        trials: Number of trials.
        limit: The rate, inside (0, 1).
    """
    hits, trials = np.asarray(hits, dtype=float), np.asarray(trials, dtype=float)
    misses = trials - hits
    with np.errstate(divide="ignore"):  # no mass above the limit: the e-value is 0
        above = np.log(betaincc(hits + 1, misses + 1, limit))
    mixture = betaln(hits + 1, misses + 1) + above - np.log1p(-limit)
    return mixture - xlogy(hits, limit) - xlog1py(misses, -limit)


def rate_interval(hits: int, trials: int, alpha: float) -> tuple[float, float]:
    """Confidence sequence of a rate, from ``log_rate_evidence`` on both sides."""

    def lowest(hits: int) -> float:
        low, high = 0.0, 1.0
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            is_excluded = log_rate_evidence(hits, trials, middle) >= -np.log(alpha / 2)
            low, high = (middle, high) if is_excluded else (low, middle)
        return low

    return lowest(hits), 1.0 - lowest(trials - hits)


def quantile_ranks(level: float, trials: int, alpha: float) -> tuple[int, int]:
    """Ranks between which the ``level`` quantile lies at all times, with probability at least 1 - ``alpha``.

    The number of observations at or below the quantile is binomial; the beta-binomial mixture bounds it at all times.
    Howard and Ramdas, "Sequential estimation of quantiles with applications to A/B testing and best-arm
    identification" (Bernoulli 28, 2022), section 3.

    Args:
        level: The level, inside (0, 1).
        trials: Number of observations.
        alpha: Probability that the quantile ever leaves the ranks.

    Returns:
        The lowest and the highest possible number of observations at or below the quantile.
    """
    limit = -np.log(alpha)

    def is_possible(rank: int) -> bool:
        return bool(_log_rank_evidence(rank, trials, level) < limit)

    centre = min(trials, max(0, round(level * trials)))
    return _last_possible(is_possible, centre, -1), _last_possible(is_possible, centre, trials + 1)


def _log_rank_evidence(rank: Any, trials: Any, level: float) -> Any:
    first, second = level * _QUANTILE_PRIOR, (1 - level) * _QUANTILE_PRIOR
    mixture = betaln(first + rank, second + trials - rank) - betaln(first, second)
    return mixture - rank * np.log(level) - (trials - rank) * np.log1p(-level)


def _last_possible(is_possible: Any, inside: int, outside: int) -> int:
    """The last possible rank between a possible and an impossible rank: the evidence is convex in the rank."""
    while abs(outside - inside) > 1:
        middle = (inside + outside) // 2
        inside, outside = (middle, outside) if is_possible(middle) else (inside, middle)
    return inside
