"""Statistics against textbook answers and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from saman.runs.telemetry.processes import variation
from saman.runs.telemetry.stragglers import stragglers
from saman.scaling.statistics.bootstrap import FEWEST_REPEATS, pooled_mean, ratio_estimate
from saman.scaling.statistics.intervals import best_median_coverage, binomial_interval, median_coverage, median_estimate
from saman.scaling.statistics.rank_test import Significance, adjust, holm, rank_test
from saman.scaling.statistics.steady_state import outliers, steady_state
from saman.scaling.statistics.variability import karp_flatt, variation_per_node


@pytest.mark.parametrize(
    ("n", "rank", "coverage"), [(6, 1, 0.96875), (9, 2, 0.9609375), (10, 2, 0.978515625), (20, 6, 0.9586)]
)
def test_median_coverage_is_that_of_the_tables(n: int, rank: int, coverage: float) -> None:
    assert median_coverage(n, rank) == pytest.approx(coverage, abs=5e-5)
    assert median_coverage(n, rank) == pytest.approx(1 - 2 * stats.binom.cdf(rank - 1, n, 0.5))


@pytest.mark.parametrize("n", [1, 7, 200, 3000])
def test_median_coverage_is_the_binomial_distribution_for_any_number_of_values(n: int) -> None:
    for rank in {1, max(1, n // 4), max(1, n // 2)}:
        wanted = 1 - 2 * stats.binom.cdf(rank - 1, n, 0.5)
        assert median_coverage(n, rank) == pytest.approx(wanted, abs=1e-12)


def test_ten_repeats_take_the_second_and_ninth() -> None:
    found = median_estimate(np.arange(10.0, 0.0, -1.0))
    assert found.interval is not None
    assert (found.interval.low, found.value, found.interval.high) == (2.0, 5.5, 9.0)
    assert found.interval.attained == pytest.approx(0.978515625)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_below_six_repeats_no_95_percent_interval_of_the_median_exists(n: int) -> None:
    found = median_estimate([float(i) for i in range(n)])
    assert found.interval is None
    assert found.withheld is not None
    assert "6" in found.withheld
    assert best_median_coverage(5) == 0.9375


def test_median_of_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        median_estimate([1.0, float("nan")])


@pytest.mark.parametrize(("k", "n"), [(0, 10), (10, 10), (46, 54), (1, 3)])
def test_binomial_interval_is_clopper_pearson(k: int, n: int) -> None:
    """By quantiles of the beta distribution (Clopper & Pearson 1934 in its modern form)."""
    low = 0.0 if k == 0 else stats.beta.ppf(0.025, k, n - k + 1)
    high = 1.0 if k == n else stats.beta.ppf(0.975, k + 1, n - k)
    assert binomial_interval(k, n) == pytest.approx((low, high))


def test_too_few_repeats_withhold_the_ratio_and_say_why() -> None:
    found = ratio_estimate([2.0] * (FEWEST_REPEATS - 1), [1.0] * 20)
    assert found.value == pytest.approx(2.0)
    assert found.interval is None
    assert found.withheld is not None
    assert str(FEWEST_REPEATS) in found.withheld


def test_bootstrap_agrees_with_scipys_on_the_same_statistic() -> None:
    rng = np.random.default_rng(4)
    first, other = np.exp(rng.normal(0.7, 0.05, 15)), np.exp(rng.normal(0.0, 0.05, 15))
    found = ratio_estimate(first, other, resamples=4999)

    def statistic(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.median(x, axis=axis) - np.median(y, axis=axis)

    theirs = stats.bootstrap((np.log(first), np.log(other)), statistic, method="percentile", n_resamples=4999, rng=1)
    assert found.interval is not None
    assert found.interval.low == pytest.approx(np.exp(theirs.confidence_interval.low), rel=0.02)
    assert found.interval.high == pytest.approx(np.exp(theirs.confidence_interval.high), rel=0.02)


def test_a_hierarchical_interval_draws_runs_not_windows() -> None:
    rng = np.random.default_rng(0)
    runs = [np.full(1000, level) + rng.normal(0, 0.001, 1000) for level in rng.normal(10, 1, 12)]
    found = pooled_mean(runs)
    assert found.interval is not None
    width = found.interval.high - found.interval.low
    assert width == pytest.approx(2 * 1.96 * 1 / np.sqrt(12), rel=0.5)  # 12 runs, not 12,000 windows


@pytest.mark.parametrize("seed", range(5))
def test_rank_test_is_scipys_exact_mann_whitney(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, other = rng.normal(0, 1, 7), rng.normal(0.8, 1, 6)
    found = rank_test(first, other)
    assert found.exact
    assert found.p == pytest.approx(stats.mannwhitneyu(first, other, method="exact").pvalue)


def test_rank_test_by_drawing_comes_near_the_exact_one() -> None:
    rng = np.random.default_rng(1)
    first, other = rng.normal(0, 1, 12), rng.normal(0.9, 1, 12)
    found = rank_test(first, other)
    assert not found.exact
    assert found.p == pytest.approx(stats.mannwhitneyu(first, other, method="exact").pvalue, abs=0.005)


def test_rank_test_of_many_runs_is_scipys_normal_limit() -> None:
    rng = np.random.default_rng(1)
    first, other = np.round(rng.normal(0, 1, 40), 1), np.round(rng.normal(0.4, 1, 35), 1)  # with ties
    expected = stats.mannwhitneyu(first, other, method="asymptotic", use_continuity=True).pvalue
    assert rank_test(first, other).p == pytest.approx(expected)


def test_ties_share_their_mean_rank() -> None:
    """Ranks 1, 2.5, 2.5, 4: of the six arrangements four deviate from the mean 5 by 1.5 or more."""
    assert rank_test([1.0, 2.0], [2.0, 3.0]).p == pytest.approx(4 / 6)


def test_holm_is_the_textbook_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_three_against_three_are_too_few_for_a_verdict() -> None:
    (found,) = adjust([rank_test([1.0, 2.0, 3.0], [4.0, 5.0, 6.0])])
    assert found.p == pytest.approx(0.1)
    assert not found.different
    assert found.verdict is Significance.TOO_FEW_REPEATS
    assert found.smallest_corrected == pytest.approx(0.1)


def test_a_long_warm_up_is_left_out_with_a_reason() -> None:
    rng = np.random.default_rng(0)
    series = 0.1 + 0.001 * rng.normal(size=200)
    series[:30] += np.linspace(0.2, 0.02, 30)
    found = steady_state(series, warmup_windows=2)
    assert 25 <= found.dropped <= 45
    assert found.reached
    assert "MSER-5" in found.reason
    assert "2 warm-up windows" in found.reason


def test_a_constant_series_keeps_all_its_windows() -> None:
    assert steady_state(np.full(100, 0.25)).dropped == 0


def test_most_of_a_steady_noisy_series_is_kept() -> None:
    rng = np.random.default_rng(3)
    kept = [100 - steady_state(1 + 0.02 * rng.normal(size=100)).dropped for _ in range(100)]
    assert np.median(kept) >= 80


def test_a_run_that_drifts_to_the_end_has_no_steady_state() -> None:
    found = steady_state(np.linspace(0.2, 0.1, 160))
    assert not found.reached
    assert "no steady state" in found.reason


def test_outliers_are_flagged_not_dropped() -> None:
    flags = outliers([10.0, 10.1, 9.9, 10.05, 5.0, 10.0])
    assert flags.tolist() == [False, False, False, False, True, False]
    assert not outliers([7.0, 7.0, 7.0, 7.0, 7.0]).any()
    assert outliers([7.0, 7.0, 7.0, 7.0, 9.0]).tolist() == [False] * 4 + [True]


def test_karp_flatt_finds_amdahls_fraction() -> None:
    for ranks in (2, 8, 64):
        assert karp_flatt(ranks / (1 + 0.03 * (ranks - 1)), ranks) == pytest.approx(0.03)
    assert karp_flatt(1.0, 1) is None


def test_variation_per_node_is_scipys() -> None:
    values = [1.0, 1.2, 0.9, 1.1]
    assert variation(values) == pytest.approx(float(stats.variation(values, ddof=1)))
    assert variation_per_node({"b": values, "a": [1.0]}) == {"a": None, "b": pytest.approx(variation(values))}


def test_the_straggler_is_named_with_its_node() -> None:
    own = {rank: 0.1 + 0.0002 * rank for rank in range(8)} | {5: 0.14}
    (found,) = stragglers(own, {rank: f"n{rank // 4}" for rank in range(8)})
    assert (found.rank, found.node) == (5, "n1")
    assert found.slower == pytest.approx(0.39, abs=0.02)
    assert stragglers({0: 0.1, 1: 0.101}, {}) == []
