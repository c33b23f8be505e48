"""The simulation of measured curves: jitter of single steps from windows, and checks on counts held out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic import Made, curve, write_runs

from saman.scaling.analysis.analysis import analyse
from saman.scaling.analysis.results import read_runs
from saman.scaling.simulation.calibration import simulate_curve
from saman.scaling.simulation.jitter import recorded_jitter, step_jitter

BASE = Made(step_seconds=0.1, between=0.0, noise=0.003, windows=40)


def _windows(steps: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Seconds per step of windows, as telemetry has them."""
    means = steps.reshape(-1, size).mean(axis=1)
    return means, np.full(len(means), float(size))


def _wait(draws: np.ndarray) -> float:
    """The mean wait of a rank for the slowest, in shares of a mean step; rows are steps, columns ranks."""
    return float((draws.max(axis=1) - draws.mean(axis=1)).mean() / draws.mean())


@pytest.mark.parametrize("size", [1, 2, 10])
def test_the_wait_for_the_slowest_of_1024_is_that_of_single_steps_whatever_the_windows(size: int) -> None:
    rng = np.random.default_rng(7)
    shape = 1 / 0.055**2  # gamma: another shape than the reconstruction assumes
    measured = rng.gamma(shape, 0.1 / shape, (4, 2000))
    truth = _wait(rng.gamma(shape, 0.1 / shape, (200, 1024)))
    jitter = step_jitter([_windows(run, size) for run in measured])
    found = _wait(rng.choice(jitter.factors, (200, 1024)))
    assert truth == pytest.approx(0.18, abs=0.02)
    assert found == pytest.approx(truth, rel=0.12)


def test_slow_drift_is_not_taken_for_variation_of_single_steps() -> None:
    rng = np.random.default_rng(3)
    steps = rng.normal(1.0, 0.02, 2000) * (1 + 0.05 * np.sin(np.linspace(0, 6, 2000)))
    jitter = step_jitter([_windows(steps, 10)])
    assert jitter.variation == pytest.approx(np.hypot(0.02, 0.05 / np.sqrt(2)), rel=0.15)
    assert "independent and log-normal" in jitter.assumption
    assert "windows of 10" in jitter.assumption


def test_a_count_is_checked_against_a_simulation_that_did_not_see_it(tmp_path: Path) -> None:
    runs = curve(BASE, (1, 2, 4, 8, 16), 0.02, 2, per_node=16)
    runs = [replace(run, step_seconds=run.step_seconds * (1.5 if run.ranks == 16 else 1)) for run in runs]
    [found] = analyse(read_runs(write_runs(tmp_path, runs))).drawable
    simulation = simulate_curve(found, [32])
    assert simulation is not None
    errors = {point.simulated.ranks: point.error for point in simulation.points}
    assert errors[1] is errors[2] is errors[4] is errors[32] is None
    assert errors[8] is not None and abs(errors[8]) < 0.05
    assert errors[16] is not None and errors[16] > 0.3  # a fit to this count itself would hide the cliff
    assert "2 counts" in simulation.basis


def test_too_few_counts_are_not_called_a_check(tmp_path: Path) -> None:
    [found] = analyse(read_runs(write_runs(tmp_path, curve(BASE, (1, 2, 4), 0.02, 2)))).drawable
    simulation = simulate_curve(found, [])
    assert simulation is not None
    assert all(point.error is None for point in simulation.points)
    assert "not checked" in simulation.basis


def test_recorded_deviations_of_steps_serve_before_any_reconstruction() -> None:
    jitter = recorded_jitter([0.05, 0.06, 0.2])
    assert jitter.variation == 0.06
    assert np.std(jitter.factors) == pytest.approx(0.06, rel=0.01)
    assert "as recorded" in jitter.assumption
