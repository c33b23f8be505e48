"""Coverage of 90 % intervals under truths that share nothing with the laws of the stack.

Every truth is a simulated step, drawn here: work that varies from rank to rank, a tree of messages, a slower network
between nodes. Tolerances are stated with each promise; the draws are fixed, so that a failure is a change of code.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from saman.scaling.models.laws import Scaling, ScalingPoint
from saman.scaling.stack.forecast import forecast_curve

Rng = np.random.Generator
Curve = Callable[[int], float]
CURVES = 24


def _waiting_for_the_slowest(rng: Rng) -> Curve:
    """A smooth curve: a step lasts as long as on the slowest of n ranks, and a tree of messages follows."""
    spread, message = rng.uniform(0.0, 0.06), rng.uniform(0.0, 0.03)
    draws = np.sort(rng.gamma(4.0, 0.25, 4000))

    def seconds(n: int) -> float:
        slowest = draws[int(min(3999, 4000 * (1 - 1 / (n + 1))))]
        return float(1 + spread * (slowest - 1) + message * np.ceil(np.log2(n)) if n > 1 else 1.0)

    return lambda n: n / seconds(n)


def _queue(rng: Rng) -> Curve:
    """A server with a queue, solved by mean value analysis: saturates like weak USL."""
    think, service = 1.0, rng.uniform(0.005, 0.05)

    def rate(n: int) -> float:
        length, value = 0.0, 0.0
        for jobs in range(1, n + 1):
            wait = service * (1 + length)
            value = jobs / (think + wait)
            length = value * wait
        return value

    return rate


def _halo(rng: Rng) -> Curve:
    """Strong scaling of a cube: volume divides by the ranks, surface only by their power of two thirds."""
    surface, fixed = rng.uniform(0.05, 0.5), rng.uniform(0.0, 0.01)
    return lambda n: 1 / ((1 + surface * np.cbrt(n) * (n > 1)) / n + fixed)


def _cliff(rng: Rng) -> Curve:
    """A loss behind the first node of 8, of a size that nothing measured tells."""
    inside, behind = rng.uniform(0.0, 0.02), rng.uniform(0.0, 0.5)
    return lambda n: n / ((1 + inside * np.log2(n)) * (1 + behind * (n > 8)))


def _covered(make: Callable[[Rng], Curve], scaling: Scaling, node: int) -> tuple[float, float]:
    """Share of outcomes inside, and the median width of the intervals at 2×."""
    rng = np.random.default_rng(11)
    inside, widths = [], []
    for _ in range(CURVES):
        curve = make(rng)

        def measured(n: int, curve: Curve = curve) -> float:
            return float(300 * curve(n) * np.exp(rng.normal(0, 0.01)))

        points = tuple(ScalingPoint(n, measured(n), -(-n // node), 0.01) for n in (1, 2, 4, 8))
        found = forecast_curve(points, [ScalingPoint(n, 0.0, -(-n // node)) for n in (16, 32)], scaling)
        assert found is not None
        for ahead in found.forecasts:
            assert ahead.low is not None
            assert ahead.high is not None
            inside.append(ahead.low <= measured(ahead.ranks) <= ahead.high)
        first = found.forecasts[0]
        widths.append(np.log((first.high or 0) / (first.low or 1)))
    return float(np.mean(inside)), float(np.median(widths))


@pytest.mark.parametrize(
    ("make", "scaling", "node", "least"),
    [
        (_waiting_for_the_slowest, "weak", 10**6, 0.9),
        (_queue, "weak", 10**6, 0.85),
        (_halo, "strong", 10**6, 0.85),
        (_cliff, "weak", 8, 0.8),
    ],
)
def test_intervals_hold_the_truth(make: Callable[[Rng], Curve], scaling: Scaling, node: int, least: float) -> None:
    """At least nominal − 5 points under truths without a cliff, − 10 behind a boundary that was not measured."""
    share, width = _covered(make, scaling, node)
    assert share >= least
    assert width < np.log(2.5)
