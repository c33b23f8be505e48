"""The variation of single steps: as recorded, or reconstructed from windows of several steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Array = NDArray[np.float64]
_QUANTILES = 50_000  # the slowest of 10,000 ranks lies well within


@dataclass(frozen=True)
class StepJitter:
    """Seconds of a step ÷ their mean, as values to draw from; ``assumption`` says in words where they come from."""

    factors: Array
    variation: float
    assumption: str


def recorded_jitter(variations: Sequence[float]) -> StepJitter:
    """The jitter of single steps whose standard deviation ÷ mean the runs recorded."""
    variation = float(np.median(variations))
    text = f"standard deviation of single steps as recorded ({variation:.1%} of the mean), taken for log-normal"
    return StepJitter(_log_normal(variation), variation, text)


def step_jitter(runs: Sequence[tuple[Array, Array]]) -> StepJitter:
    """The jitter of single steps of runs that recorded windows alone.

    Windows of one step are single steps. A mean over k independent steps has a k-th of their variance, so the variance
    of steps is k times that of windows. Slow drift is not independent; it is kept apart by the squared differences of
    successive windows (von Neumann 1941), which drift hardly moves, and counts once.

    Args:
        runs: Seconds per step and number of steps of the windows of each run.
    """
    sizes = np.concatenate([steps for _, steps in runs])
    relative = [seconds / seconds.mean() for seconds, _ in runs]
    if sizes.max() <= 1:
        values = np.concatenate(relative)
        return StepJitter(values / values.mean(), float(values.std()), "single steps as recorded")
    quick = float(np.mean(np.concatenate([_quick_variances(*run) for run in zip(relative, _sizes(runs), strict=True)])))
    windows = float(np.mean(np.concatenate([np.square(values - 1) for values in relative])))
    drift = max(0.0, windows - quick / float(np.median(sizes)))
    variation = float(np.sqrt(quick + drift))
    text = (
        f"single steps reconstructed from windows of {np.median(sizes):.0f}: independent and log-normal, "
        f"coefficient of variation {variation:.1%}"
    )
    return StepJitter(_log_normal(variation), variation, text)


def _sizes(runs: Sequence[tuple[Array, Array]]) -> list[Array]:
    return [steps for _, steps in runs]


def _quick_variances(relative: Array, steps: Array) -> Array:
    """Estimates of the variance of single steps from pairs of successive windows."""
    if len(relative) < 2:
        return np.zeros(1)
    scale = 1 / (1 / steps[1:] + 1 / steps[:-1])
    return np.asarray(np.square(np.diff(relative)) * scale)


def _log_normal(variation: float) -> Array:
    """Quantiles of a log-normal distribution with mean 1."""
    sigma = np.sqrt(np.log1p(variation**2))
    values = np.exp(sigma * ndtri((np.arange(_QUANTILES) + 0.5) / _QUANTILES))
    return np.asarray(values / values.mean())
