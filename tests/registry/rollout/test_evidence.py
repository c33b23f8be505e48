"""Counts of a rollout: servers may add theirs in any order, and no count is read wrongly."""

from __future__ import annotations

import json
import math
from itertools import product

import numpy as np
import pytest

from saman.configs.schemas.policy import RolloutPolicy
from saman.registry.rollout.evidence import Evidence
from saman.registry.rollout.judge import RolloutMetric, RolloutVerdict, judge
from saman.registry.rollout.page import draw, sequences
from saman.registry.rollout.sequential import log_mean_evidence, mean_interval, rate_interval


def random_evidence(seed: int, per_block: int = 3, blocks: int = 50) -> Evidence:
    noise = np.random.default_rng(seed)
    evidence = Evidence(per_block)
    for _ in range(blocks):
        evidence.requests += [1, per_block]
        evidence.errors.add(bool(noise.random() < 0.1), int(noise.integers(per_block + 1)))
        evidence.losses.add(bool(noise.random() < 0.1), int(noise.integers(per_block + 1)))
        evidence.add_predictions(int(noise.integers(4)), noise.integers(3, size=per_block).tolist())
        evidence.add_latency(bool(noise.random() < 0.5), float(noise.lognormal(-6, 1)))
        evidence.disagreements += [noise.random() < 0.2, 1]
    return evidence


def test_the_evidence_of_three_servers_is_their_sum_in_any_order() -> None:
    parts = [random_evidence(seed) for seed in range(3)]
    forth, back = Evidence.merged(parts, 3), Evidence.merged(parts[::-1], 3)
    assert judge(forth, RolloutPolicy()) == judge(back, RolloutPolicy())
    assert forth.requests.tolist() == [150, 450] and forth.predictions == 150
    for blocks in forth.classes.values():
        assert blocks.blocks == 150  # a server that never saw a class counts it as absent


def test_evidence_survives_its_file() -> None:
    before = random_evidence(1)
    after = Evidence.from_json(json.loads(json.dumps(before.to_json())))
    assert after.to_json() == before.to_json()
    assert judge(after, RolloutPolicy()) == judge(before, RolloutPolicy())


@pytest.mark.parametrize(
    "damage",
    [{}, {"per_block": 3}, {"requests": [1, -1]}, {"errors": [1, 2]}, {"latencies": [{"9999": 1}, {}]}, {"classes": 3}],
)
def test_damaged_evidence_is_refused(damage: dict[str, object]) -> None:
    whole = random_evidence(1).to_json()
    with pytest.raises(ValueError, match="rollout"):
        Evidence.from_json({**whole, **damage} if damage and "per_block" not in damage else damage)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("per_block", 10**13), ("per_block", -1), ("per_block", math.inf), ("requests", [10**30, 1]),
        ("requests", [2**62, 1]), ("latencies", [{"3": 2**70}, {}]), ("latencies", [{"3": -1}, {}]),
        ("predictions", math.inf), ("classes", {"x": []}), ("errors", "x" * 8),
    ],
)  # fmt: skip
def test_forged_counts_neither_exhaust_a_server_nor_end_it(name: str, value: object) -> None:
    with pytest.raises(ValueError):
        Evidence.from_json({**random_evidence(1).to_json(), name: value})


@pytest.mark.parametrize(
    "line",
    [
        {}, {"requests": 1, "findings": 2}, {"requests": [math.inf], "findings": []},
        {"requests": [10**400, 1], "findings": [{"metric": [], "name": {}}]},
        *(
            {"requests": [1, 1], "findings": [{"metric": "errors", "name": "errors", "estimate": 0.1, "lower": 0.0,
                                               "upper": 0.2, "margin": 0.1, part: value}]}
            for part in ("estimate", "upper", "margin", "metric")
            for value in (math.nan, math.inf, 10**400, "<script>", [1])
        ),
    ],
)  # fmt: skip
def test_a_forged_history_draws_no_number_that_is_none(line: dict[str, object]) -> None:
    for sequence in sequences([line]):
        drawn = draw(sequence)
        assert "nan" not in drawn
        assert "inf" not in drawn
        assert "<script>" not in drawn


def test_a_bet_on_equal_versions_gains_nothing_on_average() -> None:
    """All outcomes of 4 fair pairs, weighted by their probabilities: the mean e-value is 1."""
    values = np.array([-1.0, 0.0, 1.0])
    chances = np.array([0.21, 0.58, 0.21])
    total = 0.0
    for outcome in product(range(3), repeat=4):
        counts = np.bincount(outcome, minlength=3)
        total += math.exp(float(log_mean_evidence(counts, values, 0.0))) * float(np.prod(chances[list(outcome)]))
    assert total == pytest.approx(1.0)


def test_intervals_hold_what_was_observed_and_shrink() -> None:
    values = np.array([-1.0, 0.0, 1.0])
    few, many = (mean_interval(np.array([10, 70, 20]) * times, values, 0.05) for times in (1, 50))
    assert few[0] < many[0] < 0.1 < many[1] < few[1]
    lower, upper = rate_interval(30, 100, 0.05)
    assert 0.15 < lower < 0.3 < upper < 0.5
    assert rate_interval(0, 0, 0.05) == pytest.approx((0.0, 1.0))


def test_nothing_is_decided_without_evidence() -> None:
    found = judge(Evidence(9), RolloutPolicy())
    assert found.verdict is RolloutVerdict.GO_ON and found.requests == (0, 0)


def test_disagreement_counts_where_the_policy_limits_it() -> None:
    evidence = Evidence(1)
    evidence.disagreements += [60, 100]
    assert judge(evidence, RolloutPolicy()).verdict is RolloutVerdict.GO_ON
    found = judge(evidence, RolloutPolicy(disagreement_at_most=0.2))
    assert found.verdict is RolloutVerdict.ROLL_BACK
    [finding] = [finding for finding in found.findings if finding.metric is RolloutMetric.DISAGREEMENT]
    assert finding.lower is not None and 0.2 < finding.lower < 0.6


def test_a_shift_of_the_predictions_beyond_the_margin_is_harm() -> None:
    evidence = Evidence(1)
    noise = np.random.default_rng(0)
    for _ in range(1500):
        evidence.add_predictions(0 if noise.random() < 0.5 else int(noise.integers(10)), [int(noise.integers(10))])
    found = judge(evidence, RolloutPolicy())
    assert found.verdict is RolloutVerdict.ROLL_BACK and "shift of predictions of 0" in found.reason
