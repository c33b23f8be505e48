"""Coverage by simulation with a known truth: 1,000 synthetic studies with autocorrelated windows."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from saman.scaling.statistics.bootstrap import ratio_estimate
from saman.scaling.statistics.intervals import binomial_interval, median_estimate

STUDIES = 1000
WINDOWS = 40


def _between(kind: str, rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    """ln of the throughput of runs around a median of zero."""
    if kind == "normal":
        return rng.normal(0, 0.03, shape)
    if kind == "heavy":
        return 0.02 * rng.standard_t(3, shape)
    return np.asarray(-0.04 * (rng.exponential(1, shape) - np.log(2)))  # skewed: runs are slowed down, not sped up


def _runs(kind: str, repeats: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Throughput of runs, studies × repeats: the median over windows with autocorrelation 0.8 within a run."""
    level = _between(kind, rng, (STUDIES, repeats))
    noise = rng.normal(0, 0.02, (STUDIES, repeats, WINDOWS))
    for window in range(1, WINDOWS):
        noise[..., window] = 0.8 * noise[..., window - 1] + 0.6 * noise[..., window]
    return np.exp(np.median(level[..., None] + noise, axis=-1))


@pytest.mark.parametrize("kind", ["normal", "heavy", "skewed"])
@pytest.mark.parametrize("repeats", [6, 10, 15])
def test_order_statistic_intervals_attain_the_coverage_that_they_state(kind: str, repeats: int) -> None:
    rng = np.random.default_rng(repeats)
    # the median of run throughput itself, from many runs: windows' noise shifts it where levels are skewed
    truth = float(np.median(np.concatenate([_runs(kind, 10, rng) for _ in range(20)])))
    intervals = [median_estimate(study).interval for study in _runs(kind, repeats, rng)]
    hits = sum(i is not None and i.low <= truth <= i.high for i in intervals)
    stated = intervals[0].attained if intervals[0] else 1.0
    assert binomial_interval(hits, STUDIES, 0.99)[1] >= stated, f"{hits} of {STUDIES} against {stated:.4f} stated"


@pytest.mark.parametrize("kind", ["normal", "heavy", "skewed"])
@pytest.mark.parametrize("repeats", [(10, 10), (15, 15), (25, 25), (10, 20)])
def test_bootstrap_intervals_of_a_speedup_cover_93_to_97_percent(kind: str, repeats: tuple[int, int]) -> None:
    rng = np.random.default_rng(11)
    above, below = _runs(kind, repeats[0], rng), _runs(kind, repeats[1], rng)
    found = [ratio_estimate(a, b, scale=3.0, resamples=999).interval for a, b in zip(above, below, strict=True)]
    share = sum(i is not None and i.low <= 3.0 <= i.high for i in found) / STUDIES
    assert 0.93 <= share <= 0.97, share


@pytest.mark.parametrize("repeats", [(5, 5), (5, 10), (7, 7)])
def test_few_repeats_still_cover_at_least_93_percent(repeats: tuple[int, int]) -> None:
    rng = np.random.default_rng(2)
    above, below = _runs("normal", repeats[0], rng), _runs("normal", repeats[1], rng)
    found = [ratio_estimate(a, b, resamples=999).interval for a, b in zip(above, below, strict=True)]
    share = sum(i is not None and i.low <= 1.0 <= i.high for i in found) / STUDIES
    assert 0.93 <= share <= 0.99, share
