"""Rank tests between two groups of runs: exact by permutation, corrected for the number of comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import combinations
from math import comb
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_ENUMERATED = 50_000  # up to this many arrangements all are enumerated; beyond, this many are drawn
_LARGE = 25  # runs on each side from which the normal limit is as good as drawing
SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class RankTest:
    """A test on rank sums.

    Attributes:
        p: The p-value.
        smallest: The smallest possible p-value for this number of repeats.
        exact: Whether all arrangements were enumerated.
    """

    p: float
    smallest: float
    exact: bool


class Significance(Enum):
    """The conclusion from a corrected test."""

    DIFFERENT = "a real difference"
    TOO_FEW_REPEATS = "too few repeats for a verdict"
    NOT_SHOWN = "no difference shown"


@dataclass(frozen=True)
class AdjustedTest:
    """A test among several comparisons.

    Attributes:
        p: The p-value by itself.
        corrected: The p-value corrected for the number of comparisons (Holm).
        smallest_corrected: The smallest possible corrected p-value for this number of repeats.
    """

    p: float
    corrected: float
    smallest_corrected: float
    verdict: Significance

    @property
    def different(self) -> bool:
        """Whether the difference is significant."""
        return self.verdict is Significance.DIFFERENT

    @property
    def words(self) -> str:
        """The verdict of the rank test with its p-value."""
        if self.verdict is Significance.TOO_FEW_REPEATS:
            return f"{self.verdict.value} (smallest possible p = {self.smallest_corrected:.2g})"
        return f"{self.verdict.value} (corrected p = {self.corrected:.2g})"


def mid_ranks(values: Sequence[float] | Array) -> Array:
    """Rank values from 1; equal values share the mean of their ranks. scipy.stats takes half a second to import.

    Example:
        >>> mid_ranks([10.0, 20.0, 10.0]).tolist()
        [1.5, 3.0, 1.5]
    """
    _, place, counts = np.unique(np.asarray(values, float), return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2.0)[place], float)


def rank_test(left: Sequence[float] | Array, right: Sequence[float] | Array, seed: int = 0) -> RankTest:
    """Two-sided permutation test on the sum of mid-ranks (Wilcoxon–Mann–Whitney; Lehmann, Nonparametrics, §1).

    Exact under ties too, because the permutation distribution is that of the observed ranks.

    Args:
        left: Values of the first group.
        right: Values of the second group.
        seed: For drawing arrangements where there are too many to enumerate.

    Returns:
        The p-value, and the smallest p-value that groups of these sizes can reach.

    Example:
        >>> test = rank_test([98.0, 99.0, 100.0, 101.0], [110.0, 111.0, 112.0, 113.0])
        >>> round(test.p, 4), test.exact
        (0.0286, True)
    """
    a, b = np.asarray(left, float), np.asarray(right, float)
    ranks = mid_ranks(np.concatenate([a, b]))
    n, total = len(a), len(a) + len(b)
    centre = n * (total + 1) / 2.0
    deviation = abs(float(ranks[:n].sum()) - centre)
    arrangements = comb(total, n)
    smallest = min(1.0, 2.0 / arrangements)
    if arrangements <= _ENUMERATED:
        sums = np.fromiter((ranks[list(pick)].sum() for pick in combinations(range(total), n)), float, arrangements)
        return RankTest(float(np.mean(np.abs(sums - centre) >= deviation - 1e-9)), smallest, True)
    if min(n, len(b)) >= _LARGE:
        return RankTest(_normal_p(deviation, ranks, n), smallest, False)
    permuted = np.random.default_rng(seed).permuted(np.tile(ranks, (_ENUMERATED, 1)), axis=1)[:, :n].sum(axis=1)
    extreme = int(np.sum(np.abs(permuted - centre) >= deviation - 1e-9))
    return RankTest((extreme + 1) / (_ENUMERATED + 1), smallest, False)


def larger_test(left: Sequence[float] | Array, right: Sequence[float] | Array, seed: int = 0) -> RankTest:
    """One-sided permutation test on the sum of mid-ranks: are the values of ``left`` larger?

    Args:
        left: Values that may be larger; infinity for those beyond any other.
        right: Values to compare with.
        seed: For drawing arrangements where there are too many to enumerate.

    Returns:
        The p-value, and the smallest p-value that groups of these sizes can reach.

    Example:
        >>> test = larger_test([5.0, 6.0, 7.0], [2.0, 3.0, 4.0])
        >>> test.p, test.smallest
        (0.05, 0.05)
    """
    a, b = np.asarray(left, float), np.asarray(right, float)
    ranks = mid_ranks(np.concatenate([a, b]))
    n, observed = len(a), float(ranks[: len(a)].sum())
    arrangements = comb(len(ranks), n)
    if arrangements <= _ENUMERATED:
        picks = combinations(range(len(ranks)), n)
        sums = np.fromiter((ranks[list(pick)].sum() for pick in picks), float, arrangements)
        return RankTest(float(np.mean(sums >= observed - 1e-9)), 1.0 / arrangements, True)
    permuted = np.random.default_rng(seed).permuted(np.tile(ranks, (_ENUMERATED, 1)), axis=1)[:, :n].sum(axis=1)
    extreme = int(np.sum(permuted >= observed - 1e-9))
    return RankTest((extreme + 1) / (_ENUMERATED + 1), 1.0 / arrangements, False)


def _normal_p(deviation: float, ranks: Array, n: int) -> float:
    """Two-sided p-value of a rank sum's deviation from its mean by the normal limit, with ties in the variance."""
    total = len(ranks)
    variance = n * (total - n) / total / (total - 1) * float(((ranks - ranks.mean()) ** 2).sum())
    if variance == 0.0:
        return 1.0
    return min(1.0, 2.0 * NormalDist().cdf(-max(0.0, deviation - 0.5) / variance**0.5))


def signed_rank_test(pairs: Sequence[tuple[float, float]]) -> RankTest:
    """Two-sided test on the signed ranks of log ratios within blocks (Wilcoxon, Biometrics Bulletin 1, 1945).

    Args:
        pairs: The two values of each block.

    Returns:
        The p-value, exact without ties, and the smallest p-value of as many pairs.

    Example:
        >>> signed_rank_test([(2.0, 1.0), (2.2, 1.0), (2.4, 1.0), (2.6, 1.0), (2.8, 1.0), (3.0, 1.0)]).p
        0.03125
    """
    differences = np.array([np.log(left / right) for left, right in pairs])
    smallest = min(1.0, 2.0 ** (1 - len(differences)))
    if not differences.any():
        return RankTest(1.0, smallest, False)
    exact = len(set(np.abs(differences))) == len(differences) and bool(differences.all())
    from scipy.stats import wilcoxon  # half a second, which only studies under drift pay

    found = wilcoxon(differences, method="exact" if exact else "asymptotic", correction=not exact)
    return RankTest(float(found.pvalue), smallest, exact)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number (Holm, Scand. J. Statist. 6, 1979); the order stays.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    count = len(p_values)
    corrected = [0.0] * count
    running = 0.0
    for place, index in enumerate(sorted(range(count), key=lambda i: p_values[i])):
        running = max(running, (count - place) * p_values[index])
        corrected[index] = min(1.0, running)
    return corrected


def adjust(tests: Sequence[RankTest], significance: float = SIGNIFICANCE) -> list[AdjustedTest]:
    """Adjust the p-values of several rank tests for their number (Holm), with their verdicts."""
    corrected = holm([test.p for test in tests])
    return [_adjusted(test, p, len(tests), significance) for test, p in zip(tests, corrected, strict=True)]


def _adjusted(test: RankTest, corrected: float, comparisons: int, significance: float) -> AdjustedTest:
    if corrected <= significance:
        verdict = Significance.DIFFERENT
    elif test.smallest * comparisons > significance:
        verdict = Significance.TOO_FEW_REPEATS
    else:
        verdict = Significance.NOT_SHOWN
    return AdjustedTest(test.p, corrected, min(1.0, test.smallest * comparisons), verdict)
