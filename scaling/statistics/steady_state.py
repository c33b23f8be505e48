"""Detects the steady state of a run (MSER), and outliers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_FEWEST_WINDOWS = 10
_OUTLIER_SCORE = 3.5
_DRIFT = 0.02


@dataclass(frozen=True)
class SteadyState:
    """The windows before the steady state.

    Attributes:
        dropped: Windows to leave out at the start, warm-up included.
        reached: False where step times drift to the end.
        reason: Reason for this number, in words.
    """

    dropped: int
    reached: bool
    reason: str


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
    if _drifts(rest[best * batch :]):
        return SteadyState(warmup, False, f"{named}; no steady state: step times drift to the end")
    found = best * batch
    if found == 0:
        return SteadyState(warmup, True, f"{named}; steady from then on")
    how = f"MSER-{batch}"
    means_text = f"{rest[:found].mean():.4g} s against {rest[found:].mean():.4g} s per step"
    text = f"{named}; {found} more before the steady state ({how}: {means_text})"
    return SteadyState(warmup + found, True, text)


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


def _drifts(x: Array) -> bool:
    """Whether ten batch means rise or fall by more than 2 % in all: Mann–Kendall, two-sided 1 %.

    On batches, because the dependence of neighbouring windows would look like a trend.
    """
    count = min(10, len(x) // 2)
    if count < 5:
        return False
    means = np.array([part.mean() for part in np.array_split(x, count)])
    signs = np.sign(means[None, :] - means[:, None])
    score = abs(float(np.triu(signs, 1).sum()))
    deviation = float(np.sqrt(count * (count - 1) * (2 * count + 5) / 18))
    change = abs(float(means[-2:].mean() - means[:2].mean())) / float(means.mean())
    return (score - 1) / deviation > 2.576 and change > _DRIFT


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
