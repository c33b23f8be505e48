"""Drift between runs: a test over the order in which they started, and ratios within repeats, which drift cancels in.

A machine whose state changes slowly (temperature, neighbours, a filling disk) makes neighbouring runs alike. Intervals
that assume independent runs are then too narrow: with AR(1) noise of φ = 0.95 they cover 63–75 % instead of 95 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from saman.scaling.statistics.intervals import LEVEL, Estimate, Interval, median_estimate
from saman.scaling.statistics.rank_test import mid_ranks

Array = NDArray[np.float64]
DRIFT_SIGNIFICANCE = 0.05  # the share of studies of independent runs in which the test finds a drift
FEWEST_RUNS = 10  # of configurations with several runs; fewer cannot show a drift
_MEMORY = 0.8  # φ of the alternative that the test is made for; 0.8 to 0.95 give nearly the same power
_PERMUTATIONS = 1999
_AT_ONCE = 2_000_000  # values of permutations in memory


@dataclass(frozen=True)
class DriftTest:
    """The test of a study for drift. ``p`` is None where ``runs`` are too few."""

    p: float | None
    runs: int

    @property
    def found(self) -> bool:
        """Whether the runs drift."""
        return self.p is not None and self.p <= DRIFT_SIGNIFICANCE

    @property
    def words(self) -> str:
        """The result in words."""
        if self.p is None:
            return f"{self.runs} repeated runs are too few to test for drift between runs"
        verdict = "the runs drift" if self.found else "no drift between runs is shown"
        return f"{verdict} (permutation test over the order of {self.runs} runs, p = {self.p:.2g})"


def drift_test(configurations: Sequence[Sequence[tuple[float, float]]], seed: int = 0) -> DriftTest:
    """Test whether runs that started one after another are alike.

    The statistic is Σ φ^|i−j| rᵢ rⱼ over pairs of runs in the order of their start, with the ranks r of log rates less
    the mean of their configuration: the score test against AR(1) noise. Its distribution without drift is that over
    permutations of the order.

    Args:
        configurations: For each configuration its runs, as pairs of start (Unix seconds) and rate.
        seed: Of the permutations.
    """
    centred: list[tuple[float, float]] = []
    for runs in configurations:
        if len(runs) > 1:
            logs = np.log([rate for _, rate in runs])
            centred += [(start, float(value)) for (start, _), value in zip(runs, logs - logs.mean(), strict=True)]
    if len(centred) < FEWEST_RUNS:
        return DriftTest(None, len(centred))
    ranks = mid_ranks([value for _, value in sorted(centred)])
    ranks -= ranks.mean()
    rng = np.random.default_rng(seed)
    observed = float(_likeness(ranks[None])[0])
    rows = max(1, _AT_ONCE // len(ranks))
    extreme = 0
    for begin in range(0, _PERMUTATIONS, rows):
        count = min(rows, _PERMUTATIONS - begin)
        extreme += int(np.sum(_likeness(rng.permuted(np.tile(ranks, (count, 1)), axis=1)) >= observed - 1e-9))
    return DriftTest((extreme + 1) / (_PERMUTATIONS + 1), len(ranks))


def _likeness(rows: Array) -> Array:
    """Σ over pairs i < j of φ^(j−i) rᵢ rⱼ, for each row."""
    found = np.zeros(len(rows))
    past = np.zeros(len(rows))  # Σ over i < j of φ^(j−i) rᵢ
    for before, here in pairwise(np.ascontiguousarray(rows.T)):
        past = _MEMORY * (past + before)
        found += past * here
    return found


def withheld(estimate: Estimate, drift: DriftTest) -> Estimate:
    """The estimate without its interval, which would assume that runs are independent."""
    return Estimate(estimate.value, estimate.repeats, None, drift.words)


def pair_by_time(
    left: Sequence[tuple[float, float]], right: Sequence[tuple[float, float]]
) -> list[tuple[float, float]]:
    """Pair the rates of two configurations by repeat, for a test under drift.

    Args:
        left: Runs as pairs of start and rate, in the order of their start.
        right: The runs of the other configuration.

    Returns:
        Pairs of rates: of the k-th runs where both have as many, else of the runs nearest in time, each used once.
    """
    if len(left) == len(right):
        return [(a, b) for (_, a), (_, b) in zip(left, right, strict=True)]
    few, many = (left, list(right)) if len(left) < len(right) else (right, list(left))
    pairs = []
    for start, rate in few:
        nearest = min(many, key=lambda run: abs(run[0] - start))
        many.remove(nearest)
        pairs.append((rate, nearest[1]) if few is left else (nearest[1], rate))
    return pairs


def ratio_within_blocks(
    above: Sequence[tuple[float, float]],
    below: Sequence[tuple[float, float]],
    *,
    scale: float = 1.0,
    level: float = LEVEL,
) -> Estimate:
    """``scale`` × median(above) ÷ median(below), with an interval from the ratio within each repeat.

    The runs of a repeat are neighbours in time, so that slow drift cancels in their ratio. The interval is that of the
    median of these ratios (order statistics).

    Args:
        above: Runs of the numerator as pairs of start and rate, in the order of their start.
        below: Runs of the denominator.
        scale: Factor of value and interval.
        level: Nominal coverage.
    """
    value = scale * float(np.median([rate for _, rate in above]) / np.median([rate for _, rate in below]))
    pairs = pair_by_time(above, below)
    ratios = median_estimate([scale * a / b for a, b in pairs], level)
    if ratios.interval is None:
        return Estimate(value, len(pairs), None, ratios.withheld)
    low, high = min(ratios.interval.low, value), max(ratios.interval.high, value)
    method = f"order statistics of the ratio within {len(pairs)} repeats, because runs drift"
    return Estimate(value, len(pairs), Interval(low, high, level, ratios.interval.attained, method))
