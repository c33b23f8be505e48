"""Rollouts judged after every request: harmless candidates stay, harmful ones go soon.

``make rollouts`` simulates 10,000 rollouts; the suite simulates fewer. The outcomes are drawn from known rates; the
size of the fixed test is the textbook's formula.
"""

from __future__ import annotations

import math
import os
from statistics import NormalDist

import numpy as np
import pytest

from saman.configs.schemas.policy import RolloutPolicy
from saman.registry.rollout.evidence import Evidence
from saman.registry.rollout.judge import SHARES, RolloutMetric, RolloutVerdict, judge
from saman.registry.rollout.sequential import log_mean_evidence, log_rate_evidence, quantile_ranks

ROLLOUTS = int(os.environ.get("SAMAN_ROLLOUTS", "400"))
BLOCKS = 5000 if ROLLOUTS >= 10_000 else 1000
ALPHA = 0.05
PAIR = np.array([-1.0, 0.0, 1.0])


def fixed_size(candidate: float, stable: float, alpha: float, power: float) -> float:
    """Samples per version of the one-sided test of two proportions (Fleiss, Levin and Paik 2003, section 4.2)."""
    z = NormalDist().inv_cdf(1 - alpha) + NormalDist().inv_cdf(power)
    return z**2 * (candidate * (1 - candidate) + stable * (1 - stable)) / (candidate - stable) ** 2


def stops(candidate: float, stable: float, blocks: int, rollouts: int, level: float, seed: int) -> np.ndarray:
    """The block after which each rollout shows harm; 0 where it never does."""
    noise = np.random.default_rng(seed)
    counts = np.zeros((rollouts, 3), dtype=np.int64)
    stopped = np.zeros(rollouts, dtype=np.int64)
    for block in range(1, blocks + 1):
        left = np.flatnonzero(stopped == 0)
        difference = (noise.random(len(left)) < candidate).astype(int) - (noise.random(len(left)) < stable)
        counts[left, difference + 1] += 1
        stopped[left[log_mean_evidence(counts[left], PAIR, 0.0) >= -math.log(level)]] = block
    return stopped


@pytest.mark.parametrize("rate", [0.5, 0.1, 0.01])
def test_at_most_one_in_twenty_harmless_candidates_is_rolled_back(rate: float) -> None:
    rolled_back = np.count_nonzero(stops(rate, rate, BLOCKS, ROLLOUTS, ALPHA, seed=1)) / ROLLOUTS
    print(f"false rollbacks at rate {rate}: {rolled_back:.4f} of {ROLLOUTS} rollouts of {BLOCKS} blocks")
    assert rolled_back <= ALPHA + 2 * math.sqrt(ALPHA * (1 - ALPHA) / ROLLOUTS) * (ROLLOUTS < 10_000)


def test_looking_at_a_fixed_test_after_every_request_is_what_this_avoids() -> None:
    """The same streams, judged by the one-sided test of two proportions at 5 %: many harmless candidates lose."""
    noise = np.random.default_rng(1)
    wrong = np.cumsum(noise.random((2, 300, 2000)) < 0.1, axis=2)
    n = np.arange(1, 2001)
    pooled = wrong.sum(axis=0) / (2 * n)
    spread = np.sqrt(np.maximum(2 * pooled * (1 - pooled) / n, 1e-12))
    z = (wrong[0] - wrong[1]) / n / spread
    assert np.mean((z[:, 30:] > NormalDist().inv_cdf(1 - ALPHA)).any(axis=1)) > 0.25


def test_a_loss_of_two_points_is_found_within_half_more_than_the_fixed_test_takes() -> None:
    rollouts = max(60, ROLLOUTS // 10)
    fixed = fixed_size(0.12, 0.10, ALPHA, power=0.8)
    found = stops(0.12, 0.10, 20_000, rollouts, ALPHA, seed=2)
    mean = np.where(found, found, 20_000).mean()
    print(
        f"found after {mean:.0f} samples per version on average; the fixed test takes {fixed:.0f}: {mean / fixed:.2f}"
    )
    assert np.count_nonzero(found) >= 0.98 * rollouts
    assert mean <= 1.5 * fixed


def test_the_share_of_accuracy_finds_it_within_half_more_than_its_fixed_test() -> None:
    level = ALPHA * SHARES[RolloutMetric.ACCURACY]
    found = stops(0.12, 0.10, 20_000, max(60, ROLLOUTS // 10), level, seed=3)
    mean, fixed = np.where(found, found, 20_000).mean(), fixed_size(0.12, 0.10, level, power=0.8)
    print(f"level {level}: {mean:.0f} samples per version; the fixed test takes {fixed:.0f}: {mean / fixed:.2f}")
    assert mean <= 1.5 * fixed


def test_a_rate_at_its_limit_is_rarely_called_harmful() -> None:
    noise = np.random.default_rng(4)
    hits = np.cumsum(noise.random((ROLLOUTS, 800)) < 0.1, axis=1)
    ever = (log_rate_evidence(hits, np.arange(1, 801), 0.1) >= -math.log(ALPHA)).any(axis=1)
    assert ever.mean() <= ALPHA + 2 * math.sqrt(ALPHA * (1 - ALPHA) / ROLLOUTS)


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_a_quantile_stays_between_its_ranks_at_all_times(level: float) -> None:
    noise = np.random.default_rng(5)
    below = np.cumsum(noise.random((ROLLOUTS, 800)) < level, axis=1)  # observations under the true quantile
    ranks = np.array([quantile_ranks(level, n, ALPHA) for n in range(1, 801)])
    missed = ((below < ranks[:, 0]) | (below > ranks[:, 1])).any(axis=1).mean()
    assert missed <= ALPHA + 2 * math.sqrt(ALPHA * (1 - ALPHA) / ROLLOUTS)


def simulate(
    noise: np.random.Generator, policy: RolloutPolicy, blocks: int, *, wrong: float = 0.1, errors: float = 0.01,
    slower: float = 1.0, every: int = 1,
) -> tuple[RolloutVerdict, int]:  # fmt: skip
    """A rollout with 1 answer of stable per answer of the candidate; the arguments are the candidate's."""
    evidence = Evidence(1)
    for block in range(1, blocks + 1):
        evidence.requests += 1
        evidence.errors.add(noise.random() < errors, int(noise.random() < 0.01))
        evidence.losses.add(noise.random() < wrong, int(noise.random() < 0.1))
        evidence.add_predictions(int(noise.integers(10)), [int(noise.integers(10))])
        evidence.add_latency(True, 0.002 * slower * noise.lognormal(0, 0.3))
        evidence.add_latency(False, 0.002 * noise.lognormal(0, 0.3))
        if (
            block % every == 0
            and (verdict := judge(evidence, policy, intervals=False).verdict) is not RolloutVerdict.GO_ON
        ):
            return verdict, block
    return RolloutVerdict.GO_ON, blocks


def test_all_metrics_together_roll_few_harmless_candidates_back() -> None:
    """The whole judge, at every tenth block."""
    noise = np.random.default_rng(6)
    policy = RolloutPolicy(accuracy_tolerance=0.001)  # promotion does not end the rollouts
    rollouts = 20 if ROLLOUTS < 10_000 else 400
    ended = [simulate(noise, policy, 400, every=10)[0] for _ in range(rollouts)]
    assert ended.count(RolloutVerdict.ROLL_BACK) <= 0.05 * rollouts + 2 * math.sqrt(0.0475 * rollouts)


@pytest.mark.parametrize(
    "harm", [{"wrong": 0.3}, {"errors": 0.2}, {"slower": 4.0}], ids=["accuracy", "errors", "latency"]
)
def test_each_harm_is_found(harm: dict[str, float]) -> None:
    verdict, block = simulate(np.random.default_rng(7), RolloutPolicy(), 3000, every=25, **harm)
    assert verdict is RolloutVerdict.ROLL_BACK and block < 1500


def test_an_equal_candidate_is_promoted() -> None:
    policy = RolloutPolicy(accuracy_tolerance=0.08, errors_tolerance=0.05)
    verdict, _ = simulate(np.random.default_rng(8), policy, 4000, every=50)
    assert verdict is RolloutVerdict.PROMOTE
