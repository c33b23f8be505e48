"""Bounded fits of scaling laws with parameter intervals and residuals, and errors of predicting ahead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from saman.scaling.models.communication import HIERARCHICAL, RING
from saman.scaling.models.laws import (
    AMDAHL,
    GUSTAFSON,
    POWER,
    USL,
    Law,
    Parameter,
    RankCounts,
    Scaling,
    ScalingPoint,
    rank_counts,
)
from saman.scaling.statistics.intervals import LEVEL

Array = NDArray[np.float64]
LAWS: tuple[Law, ...] = (POWER, AMDAHL, GUSTAFSON, USL, RING, HIERARCHICAL)
FEWEST_POINTS = 3
_GOOD_FIT = 0.02  # root mean square of log residuals below which a fit is not tried from another start


@dataclass(frozen=True)
class ParameterEstimate:
    """A parameter value with its interval; ``note`` says why there is none."""

    name: str
    value: float
    low: float | None
    high: float | None
    unit: str
    note: str = ""


@dataclass(frozen=True)
class Fit:
    """A law fitted to points; ``scale`` is the throughput of a single rank, ``residuals`` are ln(measured ÷ fitted)."""

    law: Law
    scaling: Scaling
    points: tuple[ScalingPoint, ...]
    scale: float
    parameters: tuple[ParameterEstimate, ...]
    residuals: tuple[float, ...]

    def throughput(self, places: Sequence[ScalingPoint]) -> Array:
        """Predicted samples per second at the ranks and nodes of ``places``; their throughput is ignored."""
        named = {parameter.name: parameter.value for parameter in self.parameters}
        return self.scale * self.law.relative(rank_counts(places, self.scaling), named)


@lru_cache(maxsize=4096)
def fit(law: Law, points: tuple[ScalingPoint, ...], scaling: Scaling = "weak", level: float = LEVEL) -> Fit | None:
    """Fit a law by bounded least squares on log throughput, because errors of a throughput are relative.

    Args:
        law: The law.
        points: Measured points.
        scaling: Weak or strong.
        level: Coverage of the parameters' intervals.

    Returns:
        The fit; None with no more points than free parameters.

    Raises:
        ValueError: A throughput is not finite and positive.

    Example:
        >>> from saman.scaling.models.laws import AMDAHL, ScalingPoint
        >>> measured = ((1, 100.0), (2, 190.0), (4, 348.0), (8, 593.0))
        >>> fitted = fit(AMDAHL, tuple(ScalingPoint(ranks, rate) for ranks, rate in measured))
        >>> fitted.parameters[0].name, round(fitted.parameters[0].value, 3)
        ('serial_fraction', 0.05)
        >>> round(float(fitted.throughput([ScalingPoint(16, 0.0)])[0]))
        916
    """
    at, measured = rank_counts(points, scaling), _log_throughput(points)
    free = law.parameters(at)
    if len(points) < len(free) + 1:
        return None
    best = _least(law, free, at, measured)
    scale = float(np.exp(np.mean(measured - _log_relative(law, free, at, best.x))))
    residuals = -(best.fun + 0.0)
    parameters = _with_intervals(free, best.x, best.jac, residuals, level)
    return Fit(law, scaling, points, scale, parameters, tuple(float(value) for value in residuals))


def _least(law: Law, free: tuple[Parameter, ...], at: RankCounts, measured: Array) -> _Result:
    """The best of a few bounded fits. The scale is eliminated: it is additive in logs."""
    from scipy.optimize import least_squares

    def misfit(values: Array) -> Array:
        difference = _log_relative(law, free, at, values) - measured
        return np.asarray(difference - difference.mean())

    low, high = np.array([p.low for p in free]), np.array([p.high for p in free])
    first = np.array([p.start for p in free])
    best = None
    for start in (first, first / 10, first * 5):
        inside = np.clip(start, low + 1e-12, high - 1e-12)
        found = least_squares(misfit, inside, bounds=(low, high), max_nfev=200)
        best = found if best is None or found.cost < best.cost else best
        if best.cost < _GOOD_FIT**2 * len(measured) / 2:
            break  # other starts find the same, and there are thousands of fits
    assert best is not None
    return _Result(np.asarray(best.x), np.asarray(best.fun), np.asarray(best.jac))


@dataclass(frozen=True)
class _Result:
    x: Array
    fun: Array
    jac: Array


def _log_relative(law: Law, free: tuple[Parameter, ...], at: RankCounts, values: Array) -> Array:
    named = {p.name: float(v) for p, v in zip(free, values, strict=True)}
    return np.asarray(np.log(np.maximum(law.relative(at, named), 1e-300)))


def _log_throughput(points: Sequence[ScalingPoint]) -> Array:
    x = np.array([point.throughput for point in points], float)
    if not np.all(np.isfinite(x)) or np.any(x <= 0):
        raise ValueError(f"a law needs finite positive throughput; got {x.tolist()}")
    return np.asarray(np.log(x))


def _with_intervals(
    free: tuple[Parameter, ...], values: Array, jacobian: Array, residuals: Array, level: float
) -> tuple[ParameterEstimate, ...]:
    """Linearised intervals (Seber & Wild, Nonlinear Regression, §2.1.2), cut at the bounds."""
    from scipy.special import stdtrit

    degrees = len(residuals) - len(free) - 1
    errors: Array | None = None
    if degrees > 0 and np.linalg.matrix_rank(jacobian) == len(free):
        covariance = np.linalg.inv(jacobian.T @ jacobian) * float(residuals @ residuals) / degrees
        errors = np.sqrt(np.diag(covariance)) * float(stdtrit(degrees, (1 + level) / 2))
    halves = [None] * len(free) if errors is None else [float(error) for error in errors]
    return tuple(_fitted(p, float(v), half) for p, v, half in zip(free, values, halves, strict=True))


def _fitted(parameter: Parameter, value: float, half: float | None) -> ParameterEstimate:
    if half is None:
        return ParameterEstimate(parameter.name, value, None, None, parameter.unit, "no interval: too few points")
    at_bound = value - parameter.low < 1e-9 or parameter.high - value < 1e-9
    note = "at its bound" if at_bound else ""
    low, high = max(parameter.low, value - half), min(parameter.high, value + half)
    return ParameterEstimate(parameter.name, value, low, high, parameter.unit, note)


@dataclass(frozen=True)
class AheadError:
    """The log error of a law at ``ranks`` when fitted to the points up to ``fitted_to`` ranks."""

    fitted_to: int
    ranks: int
    error: float


def errors_ahead(law: Law, points: tuple[ScalingPoint, ...], scaling: Scaling = "weak") -> list[AheadError]:
    """Errors of a fitted law at larger counts, ln(measured ÷ predicted), from every origin of three points or more.

    Cross-validation with a rolling origin (Tashman, Int. J. Forecasting 16, 2000): it judges a law by extrapolation,
    which is its use, and not by its fit.

    Args:
        law: The law.
        points: Measured points, in ascending order of ranks.
        scaling: Weak or strong.

    Returns:
        An error per fitted and predicted count; empty with ``FEWEST_POINTS`` points or fewer.

    Raises:
        ValueError: A throughput is not finite and positive.
    """
    found = []
    for count in range(FEWEST_POINTS, len(points)):
        fitted = fit(law, points[:count], scaling)
        if fitted is None:
            continue
        ahead = points[count:]
        for point, value in zip(ahead, fitted.throughput(ahead), strict=True):
            found.append(AheadError(points[count - 1].ranks, point.ranks, float(np.log(point.throughput / value))))
    return found
