"""The simulation against closed answers and the published 512-GPU efficiencies."""

from __future__ import annotations

import numpy as np
import pytest
from published_headline import headlines, headlines_with_negotiation, resnet101, uniform_gradients, vgg16

from saman.scaling.models.communication import Link, hierarchical_seconds, ring_seconds
from saman.scaling.simulation.engine import Gradients, Machine, RankStep, simulate
from saman.scaling.simulation.interruptions import Interruptions, estimate_goodput

STILL = np.ones(1)
FAST, SLOW = Link(1e-6, 1e10), Link(10e-6, 1e9)
ONE_BUFFER = Gradients(np.array([8e7]), np.array([1.0]))


def _job(gradients: Gradients, jitter: np.ndarray = STILL, slow: np.ndarray = STILL) -> RankStep:
    return RankStep(0.1, 0.2, gradients, 32, jitter, slow)


def test_without_overlap_a_step_is_compute_plus_one_ring() -> None:
    machine = Machine(4, FAST, SLOW, fusion_bytes=1e9, cycle_seconds=0)
    found = simulate(_job(ONE_BUFFER), machine, 4, steps=3)
    assert found.step_seconds == pytest.approx(0.3 + float(ring_seconds(8e7, 4, FAST)))
    assert found.throughput == pytest.approx(4 * 32 / found.step_seconds)


def test_the_hierarchical_exchange_costs_its_three_phases() -> None:
    machine = Machine(4, FAST, SLOW, "hierarchical", 1e9, 0)
    found = simulate(_job(ONE_BUFFER), machine, 16, steps=3)
    assert found.exposed_seconds == pytest.approx(float(hierarchical_seconds(8e7, 4, 4, FAST, SLOW)))


def test_an_exchange_that_fits_behind_backward_is_hidden() -> None:
    early = Gradients(np.array([4e7, 4e7, 1.0]), np.array([0.0, 0.1, 1.0]))
    found = simulate(_job(early), Machine(4, FAST, SLOW, cycle_seconds=0), 4, steps=3)
    assert found.exposed_seconds < 1e-4
    assert found.efficiency > 0.999


def test_smaller_fusion_buffers_pay_more_latency() -> None:
    many = uniform_gradients(1e6, 100)
    at_end = Gradients(many.message_bytes, np.ones(100))
    costs = [
        simulate(_job(at_end), Machine(4, FAST, SLOW, fusion_bytes=size, cycle_seconds=0), 64, steps=2).exposed_seconds
        for size in (1e6, 1e5, 1e4)
    ]
    assert costs[0] < costs[1] < costs[2]
    latency = (2 * 63 - 2 * 15) * 1e-6 + 2 * 15 * 10e-6
    assert costs[2] - costs[0] == pytest.approx(99 * latency)


def test_everybody_waits_for_the_slowest_of_many() -> None:
    jitter = 1 + 0.05 * np.random.default_rng(0).uniform(-1, 1, 5000)
    found = simulate(_job(uniform_gradients(1.0), jitter), Machine(8, FAST, SLOW, cycle_seconds=0), 1024, steps=50)
    assert found.straggler_seconds == pytest.approx(0.3 * 0.05, rel=0.02)
    lasting = simulate(_job(uniform_gradients(1.0), slow=np.array([1.0, 1.5])), Machine(8, FAST, SLOW), 64, steps=3)
    assert lasting.step_seconds == pytest.approx(0.45, rel=0.02)


def test_ten_thousand_ranks_are_simulated() -> None:
    jitter = np.exp(np.random.default_rng(0).normal(0, 0.02, 1000))
    found = simulate(_job(uniform_gradients(1e8), jitter), Machine(4, FAST, SLOW), 10_000, steps=100)
    assert found.nodes == 2500
    assert 0 < found.efficiency < 1


def test_uneven_nodes_are_refused() -> None:
    with pytest.raises(ValueError, match="evenly"):
        simulate(_job(ONE_BUFFER), Machine(4, FAST, SLOW), 6)


def test_the_useful_share_is_that_of_daly() -> None:
    """A block of work w takes (M + R)·(exp(w/M) − 1) under failures every M and restarts R (Daly, FGCS 22, 2006)."""
    what = Interruptions(1000, 30.0, 300.0, 5 * 8760)
    found = estimate_goodput(what, 0.3, 2500, 1_000_000, runs=400)
    mean = 5 * 8760 * 3600 / 2500
    wall = 1000 * (mean + 300) * (np.exp(330.0 / mean) - 1)
    assert found.useful == pytest.approx(300_000 / wall, rel=0.02)
    assert estimate_goodput(what, 0.3, 1, 1000, runs=3).useful == pytest.approx(300 / 330, rel=0.01)


def test_networks_have_their_published_parameter_counts() -> None:
    assert vgg16().message_bytes.sum() / 4 == pytest.approx(138_357_544)
    assert resnet101().message_bytes.sum() / 4 == pytest.approx(44.5e6, rel=0.01)


def test_published_efficiencies_are_met_without_tuning() -> None:
    found = headlines(steps=3)
    assert {(h.model, h.gpus) for h in found} >= {("InceptionV3", 512), ("ResNet101", 512), ("VGG16", 512)}
    assert max(abs(h.error) for h in found) < 0.15
    vgg = next(h for h in found if h.model == "VGG16" and h.gpus == 512)
    assert vgg.simulated < min(h.simulated for h in found if h.model != "VGG16" and h.gpus == 512) - 0.1


def test_negotiation_fitted_to_other_models_predicts_the_published_runs_of_a_model() -> None:
    without = [abs(headline.error) for headline in headlines(steps=3)]
    found = [abs(headline.error) for headline in headlines_with_negotiation()]
    assert max(found) < 0.09
    assert np.median(found) < 0.04 < np.median(without)


def test_the_wait_for_the_slowest_is_never_negative_and_nothing_on_a_single_rank() -> None:
    skewed = np.random.default_rng(0).exponential(1.0, 500)  # the mean lies above the median
    for ranks in (1, 2, 8):
        found = simulate(_job(uniform_gradients(1.0), skewed), Machine(8, FAST, SLOW), ranks, steps=9)
        assert found.straggler_seconds >= 0
        assert found.exposed_seconds >= 0
    assert simulate(_job(ONE_BUFFER, skewed), Machine(8, FAST, SLOW), 1, steps=9).straggler_seconds == 0
