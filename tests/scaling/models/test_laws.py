"""Laws, fits and predictions against known answers; the validation table's promises."""

from __future__ import annotations

import json
import subprocess
import sys
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
from saman.scaling.models.forecast import ScalingSeries, calibrate, choose, predict
from saman.scaling.models.laws import AMDAHL, GUSTAFSON, POWER, USL, Law, ScalingPoint, rank_counts
from saman.scaling.models.published import ranks_per_node, read_series
from saman.scaling.validate import check_series, validate

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


def test_the_law_that_predicts_ahead_is_chosen_not_the_one_that_fits() -> None:
    points = _curve(AMDAHL, {"serial_fraction": 0.08}, noise=0.005)
    choice = choose(points, ())
    assert choice is not None
    assert choice.fit.law.name in ("amdahl", "usl")
    assert choose(points[:2], ()) is None


def test_strong_scaling_divides_the_compute_and_not_the_exchange() -> None:
    at = rank_counts([ScalingPoint(4, 1.0, 1)], "strong")
    assert RING.relative(at, {"bandwidth_within": 0.1})[0] == pytest.approx(1 / (1 / 4 + 0.15))


def test_a_prediction_says_when_it_goes_beyond_the_data() -> None:
    points = tuple(ScalingPoint(n, 10.0 * n**0.95, 1) for n in (1, 2, 4, 8))
    choice = choose(points, ())
    assert choice is not None
    near, far, across = predict(
        choice.fit, [ScalingPoint(16, 0, 1), ScalingPoint(64, 0, 1), ScalingPoint(16, 0, 2)], None
    )
    assert near.caution is None
    assert far.caution is not None
    assert "8 times" in far.caution
    assert across.caution is not None
    assert "node boundary" in across.caution


def test_published_predictions_meet_their_targets_without_seeing_the_scored_source() -> None:
    _, total = validate(read_series())
    assert set(total) == {"median_abs_error", "coverage", "nominal", "alarms", "false_alarms"}
    assert total["median_abs_error"] <= 0.10
    assert total["coverage"]["low"] <= total["nominal"] <= total["coverage"]["high"]
    assert total["alarms"] >= 5
    assert total["false_alarms"] <= 1


def test_the_scored_points_do_not_move_their_own_predictions() -> None:
    tracks = read_series()
    mine = next(track for track in tracks if track.id == "daint-inceptionv3-synth")
    others = tuple(track for track in tracks if track.source != mine.source)
    changed = ScalingSeries(mine.source, mine.id, (*mine.points[:-1], ScalingPoint(128, 1.0, 128)))
    before, after = (check_series(track, others, calibrate(others)) for track in (mine, changed))
    assert [(c.predicted, c.low, c.high) for c in before.checks] == [(c.predicted, c.low, c.high) for c in after.checks]


def test_three_points_are_not_enough_data() -> None:
    series, _ = validate(read_series())
    note = next(entry.note for entry in series if entry.series == "hvd-288")
    assert note is not None
    assert note.startswith("not enough data")


def test_the_command_prints_json_and_refuses_what_is_no_table(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "saman.scaling.validate"]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    assert set(json.loads(done.stdout)["totals"]) == {
        "median_abs_error",
        "coverage",
        "nominal",
        "alarms",
        "false_alarms",
    }
    bad = tmp_path / "bad.json"
    bad.write_text('{"data_parallel": [{"id": "a", "source": "b", "points": [{"gpus": 1, "value": 0}]}]}')
    refused = subprocess.run([*command, str(bad)], capture_output=True, text=True)
    assert refused.returncode == 2
    assert "not a throughput" in refused.stderr
    assert "Traceback" not in refused.stderr
    with pytest.raises(UserError, match="cannot be read"):
        read_series(tmp_path / "missing.json")


def test_node_sizes_are_read_from_hardware_lines() -> None:
    assert ranks_per_node("EC2 p2.8xlarge, 8xK80/node") == 8
    assert ranks_per_node("4 nodes x 8 V100-SXM2-16GB") == 8
    assert ranks_per_node("8 GPU/node") == 8
    assert ranks_per_node("DGX-1 8xP100 NVLink, 1 node") is None
