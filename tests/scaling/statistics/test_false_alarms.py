"""“Never settled” has a stated rate of false alarms per study, whatever the noise of its stationary runs looks like.

The noise is made here and shares no code with the test that judges it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest

from saman.scaling.statistics.steady_state import FALSE_ALARMS, never_steady, steady_state

Array = NDArray[np.float64]
RUNS = 60  # of a study
STUDIES = 100


def _autoregressive(phi: float) -> Callable[[np.random.Generator, int, int], Array]:
    def make(rng: np.random.Generator, runs: int, windows: int) -> Array:
        x = np.empty((runs, windows))
        x[:, 0] = rng.normal(0, 1, runs)
        for index in range(1, windows):
            x[:, index] = phi * x[:, index - 1] + rng.normal(0, (1 - phi**2) ** 0.5, runs)
        return x

    return make


def _bursts(rng: np.random.Generator, runs: int, windows: int) -> Array:
    """A neighbour comes and goes: a Markov chain of two states, slow for four windows on average."""
    x, slow = np.empty((runs, windows)), rng.random(runs) < 0.2
    for index in range(windows):
        slow = np.where(slow, rng.random(runs) > 0.25, rng.random(runs) < 0.0625)
        x[:, index] = 3.0 * slow
    return x + rng.normal(0, 0.3, x.shape)


def _checkpoints(rng: np.random.Generator, runs: int, windows: int) -> Array:
    """Every seventh window is slow; each run starts anywhere in that period."""
    late = (np.arange(windows) + rng.integers(0, 7, (runs, 1))) % 7 == 0
    return 2.0 * late + rng.normal(0, 0.3, (runs, windows))


SHAPES: dict[str, Callable[[np.random.Generator, int, int], Array]] = {
    "independent": lambda rng, runs, windows: rng.normal(0, 1, (runs, windows)),
    "heavy tails": lambda rng, runs, windows: rng.standard_t(3, (runs, windows)),
    "skewed": lambda rng, runs, windows: rng.exponential(1, (runs, windows)),
    "alike neighbours": _autoregressive(0.6),
    "very alike neighbours": _autoregressive(0.8),
    "bursts": _bursts,
    "checkpoints": _checkpoints,
}


@pytest.mark.parametrize("windows", [20, 40, 120])
@pytest.mark.parametrize("shape", SHAPES)
def test_stationary_studies_are_called_unsteady_as_rarely_as_stated(shape: str, windows: int) -> None:
    rng = np.random.default_rng(windows)
    alarms = 0
    for _ in range(STUDIES):
        seconds = 0.1 * np.exp(0.05 * SHAPES[shape](rng, RUNS, windows))
        alarms += bool(never_steady([steady_state(run) for run in seconds]).any())
    # the stated rate lies within the 99 % interval of the observed rate, or the observed rate is lower
    assert binomtest(alarms, STUDIES, FALSE_ALARMS, "greater").pvalue > 0.01, f"{alarms} of {STUDIES}"


def test_runs_that_get_slower_to_their_end_are_still_found() -> None:
    """A tenth of the runs of a study slow down by 50 % while they last; most are named, and none of the others."""
    rng = np.random.default_rng(3)
    seconds = 0.1 * np.exp(rng.normal(0, 0.02, (RUNS, 60)))
    seconds[::10] *= np.linspace(1.0, 1.5, 60)
    marks = never_steady([steady_state(run) for run in seconds])
    assert marks[::10].sum() > len(marks[::10]) / 2
    assert marks.sum() == marks[::10].sum()


def test_a_single_drifting_run_is_found() -> None:
    rng = np.random.default_rng(4)
    (mark,) = never_steady([steady_state(np.linspace(1.0, 1.3, 40) * np.exp(rng.normal(0, 0.02, 40)))])
    assert mark


def test_a_drift_of_less_than_two_percent_is_none() -> None:
    state = steady_state(np.linspace(1.0, 1.015, 60) * np.exp(np.random.default_rng(5).normal(0, 1e-4, 60)))
    assert state.reached and state.drift_p == 1.0
    assert not never_steady([state]).any() and not len(never_steady([]))
