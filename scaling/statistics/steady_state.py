"""Detects the steady state of a run (MSER), and outliers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_FEWEST_WINDOWS = 10
FALSE_ALARMS = 0.05  # share of stationary studies with a run that is said never to settle, at most
_OUTLIER_SCORE = 3.5
_DRIFT = 0.02
_DRIFT_P = 0.01  # of one run, for its own table; the finding about a study corrects for the number of runs
# MSER begins the series where its spread is least, and few windows depend on each other more than the table knows: both
# look like a drift. With this factor the rate of false alarms is as stated for all noise of test_false_alarms.py.
_DRIFT_CAUTION = 0.6
_DRIFT_MEANS = 40  # of neighbouring windows at most: means depend less on their neighbours than windows
# p at values of the statistic of ``drift_p`` without drift: 1.5 million series of 200 independent normal values.
_TAIL = np.array(
    [
        (0.0, 1.0), (1.592, 0.5), (2.577, 0.3), (3.324, 0.2), (4.57, 0.1), (5.791, 0.05), (7.381, 0.02), (8.573, 0.01),
        (9.757, 0.005), (11.309, 0.002), (12.497, 1e-3), (13.608, 5e-4), (15.119, 2e-4), (16.315, 1e-4),
        (17.635, 5e-5), (18.991, 2e-5),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class SteadyState:
    """The windows before the steady state.

    Attributes:
        dropped: Windows to leave out at the start, warm-up included.
        reached: False where step times drift to the end.
        reason: Reason for this number, in words.
        drift_p: p-value of the drift of the other windows, as far as it is over 2 %.
    """

    dropped: int
    reached: bool
    reason: str
    drift_p: float = 1.0


def steady_state(seconds_per_step: Sequence[float] | Array, warmup_windows: int = 0) -> SteadyState:
    """Find the leading windows to leave out: the study's warm-up, then what MSER finds.

    MSER-5 (White, Simulation 69, 1997) drops at most half of the windows, so that the standard error of the rest is
    smallest. Below 50 windows it looks at single windows instead of batches of five. If the rest still drifts, the
    run has no steady state, and only the warm-up is dropped.

    Args:
        seconds_per_step: Of each window.
        warmup_windows: Windows that the study names as warm-up.
    """
    x = np.asarray(seconds_per_step, float)
    warmup = min(warmup_windows, len(x))
    rest = x[warmup:]
    named = f"{warmup} warm-up window{'s' if warmup != 1 else ''} set by the study"
    if len(rest) < _FEWEST_WINDOWS:
        return SteadyState(warmup, True, f"{named}; {len(rest)} windows are too few to detect a steady state")
    batch = 5 if len(rest) >= 50 else 1
    means = rest[: len(rest) // batch * batch].reshape(-1, batch).mean(axis=1)
    best = _mser(means)
    p = drift_p(rest[best * batch :])
    if p <= _DRIFT_P:
        text = f"{named}; no steady state: step times drift to the end (p = {p:.2g})"
        return SteadyState(warmup, False, text, p)
    found = best * batch
    if found == 0:
        return SteadyState(warmup, True, f"{named}; steady from then on", p)
    how = f"MSER-{batch}"
    means_text = f"{rest[:found].mean():.4g} s against {rest[found:].mean():.4g} s per step"
    text = f"{named}; {found} more before the steady state ({how}: {means_text})"
    return SteadyState(warmup + found, True, text, p)


def never_steady(states: Sequence[SteadyState], false_alarms: float = FALSE_ALARMS) -> NDArray[np.bool_]:
    """Test which runs of a study never reach a steady state.

    p-values are corrected for the number of runs (Benjamini & Hochberg, J. R. Statist. Soc. B 57, 1995): a study in
    which all runs are stationary has a marked run with a probability of at most ``false_alarms``.

    Args:
        states: Of all runs of the study.
        false_alarms: Share of stationary studies with a false alarm.
    """
    if not states:
        return np.zeros(0, bool)
    p_values = np.array([state.drift_p for state in states])
    ascending = np.sort(p_values)
    below = np.flatnonzero(ascending <= false_alarms * np.arange(1, len(ascending) + 1) / len(ascending))
    return np.asarray(p_values <= ascending[below[-1]]) if len(below) else np.zeros(len(p_values), bool)


def _mser(means: Array) -> int:
    """argmin over d of Σ(x_i − x̄_d)² ÷ (n − d)² over i ≥ d, with at least half the batches left.

    Differences below 1e-6 of the mean are ignored, so that a constant series keeps all its windows.
    """
    n = len(means)
    left = n - np.arange(n)
    centred = means - means.mean()
    tail = np.cumsum(centred[::-1])[::-1]
    squares = np.cumsum((centred**2)[::-1])[::-1]
    score = (squares - tail**2 / left) / left**2
    allowed = score[: n // 2 + 1]
    floor = (1e-6 * max(abs(float(means.mean())), 1e-300)) ** 2 / n
    return int(np.argmax(allowed <= allowed.min() * (1 + 1e-9) + floor))


def drift_p(x: Array) -> float:
    """The p-value of a linear drift of more than 2 % over a series; 1 for a smaller drift or a short series.

    The slope is divided by a spread that the partial sums of its own residuals give, so that its distribution is the
    same whatever the dependence of neighbouring values is (fixed-b asymptotics with Bartlett's kernel and the whole
    sample as bandwidth; Kiefer, Vogelsang & Bunzel, Econometrica 68, 2000).
    """
    means = x if len(x) <= _DRIFT_MEANS else np.array([part.mean() for part in np.array_split(x, _DRIFT_MEANS)])
    n = len(means)
    if n < _FEWEST_WINDOWS:
        return 1.0
    time = np.arange(n) - (n - 1) / 2
    score = float(means @ time)
    slope = score / float(time @ time)
    if abs(slope) * (n - 1) <= _DRIFT * float(means.mean()):
        return 1.0
    partial = np.cumsum((means - means.mean() - slope * time) * time)
    spread = float(np.sqrt(2 * float(partial @ partial) / n))
    return _tail(_DRIFT_CAUTION * abs(score) / spread) if spread > 0 else 0.0


def _tail(statistic: float) -> float:
    """The p-value from the table; beyond it, as the line through its last two entries."""
    at, logs = _TAIL[:, 0], np.log(_TAIL[:, 1])
    if statistic <= at[-1]:
        return float(np.exp(np.interp(statistic, at, logs)))
    slope = (logs[-1] - logs[-2]) / (at[-1] - at[-2])
    return float(np.exp(logs[-1] + slope * (statistic - at[-1])))


def outliers(values: Sequence[float] | Array) -> NDArray[np.bool_]:
    """Flag outliers: a modified z-score above 3.5 (Iglewicz & Hoaglin 1993, §3); none among fewer than four values."""
    x = np.asarray(values, float)
    if len(x) < 4:
        return np.zeros(len(x), bool)
    return np.abs(modified_scores(x)) > _OUTLIER_SCORE


def modified_scores(values: Array) -> Array:
    """Modified z-scores 0.6745·(x − median) ÷ MAD (Iglewicz & Hoaglin 1993, §3); zeros where all values are equal.

    Where more than half of the values are equal, and MAD is zero, the mean absolute deviation replaces it.
    """
    deviations = values - np.median(values)
    spread = float(np.median(np.abs(deviations))) / 0.6745
    if spread == 0.0:
        spread = 1.253314 * float(np.mean(np.abs(deviations)))
    return np.asarray(deviations / spread) if spread > 0 else np.zeros_like(values)
