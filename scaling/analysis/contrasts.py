"""Contrasts: ratios of throughput between two sets of runs, with rank tests corrected for their number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from saman.scaling.analysis.baselines import throughput_ratio
from saman.scaling.analysis.curves import Curve
from saman.scaling.analysis.run_values import MeasuredRun, timed_rates
from saman.scaling.statistics.drift import pair_by_time
from saman.scaling.statistics.intervals import Estimate
from saman.scaling.statistics.rank_test import AdjustedTest, RankTest, adjust, rank_test, signed_rank_test

_MOST_CURVES_IN_PAIRS = 8  # beyond, each curve is compared with the fastest only


@dataclass(frozen=True)
class RunPair:
    """Two sets of runs at a rank count, to be compared; ``series`` and ``against`` name them."""

    ranks: int
    series: str
    against: str
    runs: tuple[MeasuredRun, ...]
    against_runs: tuple[MeasuredRun, ...]


@dataclass(frozen=True)
class Contrast:
    """Throughput of ``series`` ÷ throughput of ``against`` at one rank count, and whether the two differ."""

    ranks: int
    series: str
    against: str
    ratio: Estimate
    test: RankTest
    verdict: AdjustedTest

    def inverse(self) -> Contrast:
        """The same comparison with the series exchanged; the test is two-sided and stays."""
        ratio, interval = self.ratio, self.ratio.interval
        if interval is not None:
            interval = replace(interval, low=1 / interval.high, high=1 / interval.low)
        exchanged = replace(ratio, value=1 / ratio.value, interval=interval)
        return replace(self, series=self.against, against=self.series, ratio=exchanged)


def contrast_curves(curves: Sequence[Curve], drifts: bool = False) -> list[Contrast]:
    """Compare curves at every rank and node count that two of them share.

    All pairs are compared, or each curve with the fastest where there are many. p-values are corrected for the number
    of comparisons (Holm). Where runs drift, the runs of a repeat are compared with each other.
    """
    pairs = list(combinations(curves, 2))
    if len(curves) > _MOST_CURVES_IN_PAIRS:
        fastest = max(curves, key=lambda curve: curve.points[-1].throughput.value)
        pairs = [(fastest, curve) for curve in curves if curve is not fastest]
    shared = []
    for left, right in pairs:
        places = {(point.ranks, point.nodes): point for point in right.points}
        for point in left.points:
            other = places.get((point.ranks, point.nodes))
            if other is not None:
                shared.append(RunPair(point.ranks, left.label, right.label, point.runs, other.runs))
    return contrast_runs(shared, drifts)


def contrast_runs(pairs: Sequence[RunPair], drifts: bool = False) -> list[Contrast]:
    """Ratios and rank tests of ``pairs``, corrected for their number (Holm).

    Args:
        pairs: The runs to compare.
        drifts: Whether the runs drift: those of a repeat are then compared with each other.
    """
    tests = [_test(pair, drifts) for pair in pairs]
    ratios = [throughput_ratio(pair.runs, pair.against_runs, drifts) for pair in pairs]
    return [
        Contrast(pair.ranks, pair.series, pair.against, ratio, test, verdict)
        for pair, ratio, test, verdict in zip(pairs, ratios, tests, adjust(tests), strict=True)
    ]


def _test(pair: RunPair, drifts: bool) -> RankTest:
    if drifts:
        return signed_rank_test(pair_by_time(timed_rates(pair.runs), timed_rates(pair.against_runs)))
    return rank_test(_rates(pair.runs), _rates(pair.against_runs))


def _rates(runs: Sequence[MeasuredRun]) -> list[float]:
    return [run.measured.samples_per_second for run in runs]
