"""What each setting gains, from the throughput of a few runs: an additive model of its logarithm. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saman.scaling.statistics.intervals import LEVEL
from saman.tuning.machine.design import Point

Array = NDArray[np.float64]
LEAST_GAIN = 0.005  # a smaller gain does not change a setting


@dataclass(frozen=True)
class Measured:
    """A run: its point and its throughput in samples per second."""

    point: Point
    samples_per_second: float


@dataclass(frozen=True)
class SpeedGain:
    """A relative gain in throughput, with the ends of its 95 % interval; ``None`` where too few runs tell them."""

    value: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.value:+.1%}"
        return f"{self.value:+.1%} ({self.low:+.1%} to {self.high:+.1%})"


class Effects:
    """The model: log throughput is a sum of an effect per level. Least squares; intervals by Student's t.

    Args:
        counts: Levels of each factor.
        runs: The runs; every level must occur.
    """

    def __init__(self, counts: Sequence[int], runs: Sequence[Measured]) -> None:
        self._counts, self._runs = tuple(counts), tuple(runs)
        design = np.array([self._row(run.point) for run in runs])
        logs = np.array([math.log(run.samples_per_second) for run in runs])
        self._values, *_ = np.linalg.lstsq(design, logs, rcond=None)
        self._spread = np.linalg.pinv(design.T @ design)
        self._freedom = len(runs) - int(np.linalg.matrix_rank(design))
        rest = logs - design @ self._values
        self._variance = float(rest @ rest) / self._freedom if self._freedom else math.nan

    def _row(self, point: Point) -> Array:
        row = [1.0]
        for level, count in zip(point, self._counts, strict=True):
            row += [float(level == each) for each in range(1, count)]
        return np.array(row)

    def gain(self, point: Point, over: Point | None = None) -> SpeedGain:
        """The gain of a point over another; default: over the experiment as it is."""
        before = over if over is not None else tuple(0 for _ in self._counts)
        contrast = self._row(point) - self._row(before)
        value = float(contrast @ self._values)
        if not self._freedom or not contrast.any():
            return SpeedGain(math.expm1(value))
        from scipy.stats import t

        error = math.sqrt(self._variance * float(contrast @ self._spread @ contrast))
        half = float(t.ppf((1 + LEVEL) / 2, self._freedom)) * error
        return SpeedGain(math.expm1(value), math.expm1(value - half), math.expm1(value + half))

    def gain_of(self, factor: int, level: int) -> SpeedGain:
        """The gain of a level of a factor over its level 0."""
        return self.gain(tuple(level if each == factor else 0 for each in range(len(self._counts))))

    def expected_best(self) -> Point:
        """The point with the best level of each factor; a level that gains next to nothing is left alone."""
        best = []
        for factor, count in enumerate(self._counts):
            gains = [self.gain_of(factor, level).value for level in range(count)]
            found = max(range(count), key=gains.__getitem__)
            best.append(found if gains[found] > LEAST_GAIN else 0)
        return tuple(best)

    def best_measured(self) -> Point:
        """The measured point with the highest throughput: the mean of its runs, and of what the model says.

        The model knows no factors that act together; single runs scatter. Each corrects the other.
        """

        def score(point: Point) -> float:
            own = [math.log(run.samples_per_second) for run in self._runs if run.point == point]
            return (sum(own) / len(own) + float(self._row(point) @ self._values)) / 2

        points = sorted({run.point for run in self._runs})
        found = max(points, key=score)
        asis = tuple(0 for _ in self._counts)
        return found if asis not in points or score(found) - score(asis) > LEAST_GAIN else asis
