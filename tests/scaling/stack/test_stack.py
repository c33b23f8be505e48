"""The stack of laws: the data decide its weights, and the situation its width."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t as student

from saman.scaling.models.boundaries import Boundary
from saman.scaling.models.laws import Scaling, ScalingPoint
from saman.scaling.stack.distribution import ForecastDistribution
from saman.scaling.stack.forecast import CurveForecast, ThroughputForecast, forecast_curve
from saman.scaling.stack.weights import shipped_stack

Truth = Callable[[int], float]


def _forecast(
    truth: Truth,
    counts: tuple[int, ...],
    ahead: tuple[int, ...],
    scaling: Scaling = "weak",
    wobble: float = 0.0,
    node: int = 10**6,
    noise: float = 0.0,
) -> CurveForecast:
    signs = [(-1) ** index for index in range(len(counts))]
    points = tuple(
        ScalingPoint(n, 50 * truth(n) * float(np.exp(wobble * sign)), -(-n // node), noise)
        for n, sign in zip(counts, signs, strict=True)
    )
    found = forecast_curve(points, [ScalingPoint(n, 0.0, -(-n // node)) for n in ahead], scaling)
    assert found is not None
    return found


def _width(forecast: ThroughputForecast) -> float:
    assert forecast.low is not None
    assert forecast.high is not None
    return float(np.log(forecast.high / forecast.low))


def _retrograde(n: int) -> float:
    """Seconds of a step: work, a queue that grows with the ranks, and talk of every pair."""
    return n / (1 + 0.04 * (n - 1) + 0.002 * n * (n - 1))


def test_the_data_decide_the_weights() -> None:
    counts = (1, 2, 4, 8, 16, 32)
    usl = _forecast(_retrograde, counts, (64,)).choice.weights
    power = _forecast(lambda n: n**0.8, counts, (64,)).choice.weights
    amdahl = _forecast(lambda n: 1 / (0.05 + 0.95 / n), counts, (64,)).choice.weights
    assert max(usl, key=lambda name: usl[name]) == "usl"
    assert max(power, key=lambda name: power[name]) == "power"
    assert max(amdahl, key=lambda name: amdahl[name]) == "amdahl"
    for weights in (usl, power, amdahl):
        assert sum(weights.values()) == pytest.approx(1)


def test_a_curve_that_bends_is_forecast_better_than_by_a_power_law() -> None:
    (ahead,) = _forecast(_retrograde, (1, 2, 4, 8, 16, 32), (64,)).forecasts
    truth = 50 * _retrograde(64)
    assert abs(np.log(ahead.throughput / truth)) < 0.25 * abs(np.log(ahead.expected / truth))


def test_width_follows_the_curve_and_not_the_distance_alone() -> None:
    counts, ahead = (1, 2, 4, 8), (16,)
    smooth, rough, lossy, noisy = (
        _width(_forecast(*case).forecasts[0])
        for case in (
            (lambda n: n**0.97, counts, ahead),
            (lambda n: n**0.97, counts, ahead, "weak", 0.1),
            (lambda n: n**0.6, counts, ahead),
            (lambda n: n**0.97, counts, ahead, "weak", 0.0, 10**6, 0.1),
        )
    )
    assert smooth < rough
    assert smooth < lossy
    assert smooth < noisy


def test_width_grows_with_distance() -> None:
    widths = [_width(each) for each in _forecast(lambda n: n**0.9, (1, 2, 4, 8), (16, 32, 64, 128)).forecasts]
    assert widths == sorted(widths)


def test_an_unmeasured_node_boundary_has_a_stated_probability_of_a_loss() -> None:
    def truth(n: int) -> float:
        return float(n**0.95)

    inside = _forecast(truth, (1, 2, 4, 8), (16,)).forecasts[0]
    across = _forecast(truth, (1, 2, 4, 8), (16,), node=8).forecasts[0]
    measured = _forecast(truth, (2, 4, 8, 16), (32,), node=8).forecasts[0]
    assert across.boundaries == (Boundary.NODE,)
    assert inside.boundaries == measured.boundaries == ()
    assert across.cliff_probability > inside.cliff_probability + 0.1
    assert across.low is not None
    assert inside.low is not None
    assert across.low < inside.low
    assert across.caution is not None
    assert "node boundary" in across.caution


def test_shared_cores_and_memory_are_boundaries_too() -> None:
    points = tuple(ScalingPoint(n, 10.0 * n) for n in (1, 2, 4))
    place = ScalingPoint(8, 0.0, 1, 0.0, frozenset({Boundary.SHARED_CORES}))
    found = forecast_curve(points, [place, replace(place, boundaries=frozenset({Boundary.MEMORY}))])
    assert found is not None
    assert [each.boundaries for each in found.forecasts] == [(Boundary.SHARED_CORES,), (Boundary.MEMORY,)]
    known = tuple(replace(point, boundaries=frozenset({Boundary.SHARED_CORES})) for point in points)
    again = forecast_curve(known, [place])
    assert again is not None
    assert again.forecasts[0].boundaries == ()


def test_scaling_mode_is_part_of_a_forecast() -> None:
    weak, strong = (_forecast(lambda n: n**0.9, (1, 2, 4, 8), (16,), mode) for mode in ("weak", "strong"))
    assert weak.choice.weights["amdahl"] < strong.choice.weights["amdahl"]
    assert _width(weak.forecasts[0]) != pytest.approx(_width(strong.forecasts[0]), rel=1e-3)


def test_a_forecast_says_when_it_goes_beyond_the_data() -> None:
    near, far = _forecast(lambda n: n**0.95, (1, 2, 4, 8), (16, 64)).forecasts
    assert near.caution is None
    assert far.caution is not None
    assert "8 times" in far.caution
    assert forecast_curve((ScalingPoint(1, 1.0), ScalingPoint(2, 2.0)), [ScalingPoint(4, 0.0)]) is None


def test_a_distribution_is_a_distribution() -> None:
    (ahead,) = _forecast(lambda n: n**0.9, (1, 2, 4, 8), (16,), node=8).forecasts
    found = ahead.distribution
    logs = np.linspace(np.log(ahead.throughput) - 12, np.log(ahead.throughput) + 12, 20001)
    densities = np.array([np.exp(found.log_score(float(np.exp(log)))) for log in logs[::20]])
    assert float(densities.sum() * (logs[20] - logs[0])) == pytest.approx(1, abs=0.01)
    assert found.below(found.quantile(0.3)) == pytest.approx(0.3, abs=1e-6)
    wide = replace(found, widening=2.0)
    assert np.log(wide.quantile(0.95) / wide.median) == pytest.approx(2 * np.log(found.quantile(0.95) / found.median))
    assert wide.below(wide.quantile(0.05)) == pytest.approx(0.05, abs=1e-6)
    assert ForecastDistribution.from_json(wide.to_json()) == wide


@pytest.mark.parametrize("fall", [-3.0, -0.5, -0.05, 0.0, 0.05, 0.5, 3.0])
def test_whatever_happens_a_forecast_loses_little_against_the_power_law(fall: float) -> None:
    """The power law is part of the mixture with a fifth: log score at least its own − ln 5."""
    for truth, scaling in ((_retrograde, "weak"), (lambda n: n**0.95, "strong"), (lambda n: n**1.2, "weak")):
        (ahead,) = _forecast(truth, (1, 2, 4, 8), (16,), scaling).forecasts
        width = shipped_stack().power_law
        outcome = ahead.expected * float(np.exp(fall))
        rule = student.logpdf(fall, width.degrees, 0, width.scale)  # a doubling away
        assert ahead.distribution.log_score(outcome) >= rule - np.log(5) - 1e-6
