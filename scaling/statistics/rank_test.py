"""Whether two groups of runs differ: an exact rank test by permutation, corrected when many pairs are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_ENUMERATED = 50_000  # up to this many arrangements are all looked at; beyond, this many are drawn
_LARGE = 25  # runs on each side from which the normal limit is as good as drawing
SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class RankTest:
    """A two-sided test on rank sums; ``smallest`` is the least p-value that so many repeats can give."""

    p: float
    smallest: float
    exact: bool


@dataclass(frozen=True)
class AdjustedTest:
    """One comparison among several: its p-value corrected by Holm, and what may be said."""

    p: float
    corrected: float
    different: bool
    words: str


def rank_test(one: Sequence[float] | Array, other: Sequence[float] | Array, seed: int = 0) -> RankTest:
    """Two-sided permutation test on the sum of mid-ranks (Wilcoxon–Mann–Whitney; Lehmann, Nonparametrics, §1).

    Exact also under ties, because the permutation distribution is that of the ranks at hand.
    """
    a, b = np.asarray(one, float), np.asarray(other, float)
    ranks = mid_ranks(np.concatenate([a, b]))
    n, total = len(a), len(a) + len(b)
    centre = n * (total + 1) / 2.0
    seen = abs(float(ranks[:n].sum()) - centre)
    arrangements = comb(total, n)
    smallest = min(1.0, 2.0 / arrangements)
    if arrangements <= _ENUMERATED:
        sums = np.fromiter((ranks[list(pick)].sum() for pick in combinations(range(total), n)), float, arrangements)
        return RankTest(float(np.mean(np.abs(sums - centre) >= seen - 1e-9)), smallest, True)
    if min(n, len(b)) >= _LARGE:
        return RankTest(_normal_p(seen, ranks, n), smallest, False)
    drawn = np.random.default_rng(seed).permuted(np.tile(ranks, (_ENUMERATED, 1)), axis=1)[:, :n].sum(axis=1)
    extreme = int(np.sum(np.abs(drawn - centre) >= seen - 1e-9))
    return RankTest((extreme + 1) / (_ENUMERATED + 1), smallest, False)


def _normal_p(apart: float, ranks: Array, n: int) -> float:
    """Two-sided p of a rank sum that lies ``apart`` from its mean, by the normal limit; ties are in the variance."""
    total = len(ranks)
    variance = n * (total - n) / total / (total - 1) * float(((ranks - ranks.mean()) ** 2).sum())
    if variance == 0.0:
        return 1.0
    return min(1.0, 2.0 * NormalDist().cdf(-max(0.0, apart - 0.5) / variance**0.5))


def mid_ranks(values: Array) -> Array:
    """Ranks from 1, ties sharing their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray(((last - counts + 1 + last) / 2.0)[inverse], dtype=float)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm, Scand. J. Statist. 6, 1979), in the order given."""
    count = len(p_values)
    corrected = [0.0] * count
    running = 0.0
    for place, index in enumerate(sorted(range(count), key=lambda i: p_values[i])):
        running = max(running, (count - place) * p_values[index])
        corrected[index] = min(1.0, running)
    return corrected


def verdicts(tests: Sequence[RankTest], significance: float = SIGNIFICANCE) -> list[AdjustedTest]:
    """What may be said of each of several comparisons made at once."""
    corrected = holm([test.p for test in tests])
    return [_verdict(test, p, len(tests), significance) for test, p in zip(tests, corrected, strict=True)]


def _verdict(test: RankTest, corrected: float, comparisons: int, significance: float) -> AdjustedTest:
    if corrected <= significance:
        words = f"a real difference (corrected p = {corrected:.2g})"
    elif test.smallest * comparisons > significance:
        least = min(1.0, test.smallest * comparisons)
        words = f"too few repeats to tell (least possible p = {least:.2g})"
    else:
        words = f"no difference shown (corrected p = {corrected:.2g})"
    return AdjustedTest(test.p, corrected, corrected <= significance, words)
