"""Laws and fits against known answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from saman.configs.errors import UserError
from saman.scaling.models.communication import (
    HIERARCHICAL,
    RING,
    Link,
    flat_ring_seconds,
    hierarchical_seconds,
    ring_seconds,
)
from saman.scaling.models.fitting import fit
from saman.scaling.models.laws import AMDAHL, GUSTAFSON, POWER, USL, Law, ScalingPoint, rank_counts
from saman.scaling.models.published import read_series

COUNTS = (1, 2, 4, 8, 16, 32, 64)


def _curve(law: Law, named: dict[str, float], per_node: int = 4, noise: float = 0.0) -> tuple[ScalingPoint, ...]:
    empty = [ScalingPoint(n, 1.0, -(-n // per_node)) for n in COUNTS]
    rng = np.random.default_rng(0)
    values = 100 * law.relative(rank_counts(empty), named) * np.exp(rng.normal(0, noise, len(COUNTS)))
    return tuple(ScalingPoint(p.ranks, float(v), p.nodes) for p, v in zip(empty, values, strict=True))


@pytest.mark.parametrize(
    ("law", "named"),
    [
        (AMDAHL, {"serial_fraction": 0.03}),
        (GUSTAFSON, {"serial_fraction": 0.2}),
        (USL, {"contention": 0.02, "coherency": 0.0005}),
        (POWER, {"exponent": 0.9}),
        (RING, {"bandwidth_within": 0.05, "bandwidth_across": 0.2}),
        (HIERARCHICAL, {"bandwidth_within": 0.1, "bandwidth_across": 0.15, "latency_across": 0.002}),
    ],
)
def test_a_fit_finds_the_parameters_that_made_the_curve(law: Law, named: dict[str, float]) -> None:
    fitted = fit(law, _curve(law, named))
    assert fitted is not None
    found = {parameter.name: parameter.value for parameter in fitted.parameters}
    assert fitted.scale == pytest.approx(100, rel=0.01)
    assert max(abs(residual) for residual in fitted.residuals) < 5e-3
    for name, value in named.items():
        assert found[name] == pytest.approx(value, rel=0.05, abs=1e-3), found


def test_parameter_intervals_hold_the_truth_under_noise() -> None:
    fitted = fit(AMDAHL, _curve(AMDAHL, {"serial_fraction": 0.03}, noise=0.01))
    assert fitted is not None
    (parameter,) = fitted.parameters
    assert parameter.low is not None
    assert parameter.high is not None
    assert parameter.low < 0.03 < parameter.high


def test_a_ring_costs_what_the_formula_says() -> None:
    link = Link(1e-6, 1e9)
    assert ring_seconds(8e6, 4, link) == pytest.approx(6e-6 + 1.5 * 8e-3)
    assert ring_seconds(8e6, 1, link) == 0
    slow = Link(10e-6, 1e8)
    assert flat_ring_seconds(8e6, 2, 2, link, slow) == pytest.approx(4e-6 + 20e-6 + 1.5 * 8e-2)
    assert hierarchical_seconds(8e6, 2, 2, link, slow) == pytest.approx(2e-6 + 8e-3 + 20e-6 + 8e-2)


def test_strong_scaling_divides_the_compute_and_not_the_exchange() -> None:
    at = rank_counts([ScalingPoint(4, 1.0, 1)], "strong")
    assert RING.relative(at, {"bandwidth_within": 0.1})[0] == pytest.approx(1 / (1 / 4 + 0.15))


def test_a_table_that_is_none_is_refused(tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text('{"data_parallel": [{"id": "a", "source": "b", "points": [{"gpus": 1, "value": 0}]}]}')
    with pytest.raises(UserError, match="not a throughput"):
        read_series(bad)
    with pytest.raises(UserError, match="cannot be read"):
        read_series(tmp_path / "missing.json")
