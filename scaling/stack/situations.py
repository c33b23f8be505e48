"""What the stack knows about a forecast before the outcome: each law's value, its past errors, and the distance.

Everything comes from the points measured so far. So the same code makes the features of a forecast and those of a
published curve that is cut off at an earlier count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from saman.scaling.models.boundaries import unmeasured
from saman.scaling.models.communication import HIERARCHICAL, RING
from saman.scaling.models.fitting import fit
from saman.scaling.models.laws import AMDAHL, CONSTANT, POWER, USL, Law, Scaling, ScalingPoint
from saman.scaling.stack.distribution import student_log_density

Array = NDArray[np.float64]
STACK: tuple[Law, ...] = (POWER, CONSTANT, AMDAHL, USL, RING, HIERARCHICAL)
_FITTED: tuple[Law, ...] = (AMDAHL, USL, RING, HIERARCHICAL)
_IN_OWN_ERROR = [0, 1, 2]  # power, constant, Amdahl: defined from two points on
# Fixed before training, so that past errors are features and not parameters.
_PAST_SCALE = 0.05  # scale of a past error of a doubling, in logarithms
_PAST_GROWTH = 0.7  # its growth with the doublings
_PAST_DEGREES = 3.0
_ANCHOR = 0.5  # share of the last residual that a law carries on; errors of neighbouring counts are alike
_PRIOR_ERRORS = 2.0  # weight of _PAST_SCALE beside the curve's own errors
_LEAST_DOUBLINGS = 0.25
_FIRST_ORIGIN = 2
_LEAST_RESIDUAL = 0.01  # published figures are rounded, and no curve is smoother than its runs


@dataclass(frozen=True)
class Situations:
    """Features of forecasts, a row each. Logarithms are of throughput; a law without a fit has NaN.

    Attributes:
        laws: Each law's value at the place, carried on from the last residual; shape (n, laws).
        power_law: The power law's value at the place, without the last residual: the simple rule.
        evidence: Each law's log likelihood of this curve's earlier points, each predicted from those before it.
        fits: Each law's evidence from its fit: −n/2 · ln(mean square residual) − parameters/2 · ln n (Schwarz, 1978).
        own_error: Mean square of the curve's errors one count ahead, per doubling, shrunk to a prior.
        deficit: 1 − exponent of the power law: the loss so far, at least 0.
        doublings: Distance from the nearest measured count.
        noise: Relative standard deviation from run to run.
        strong: 1 under strong scaling.
        crosses: 1 beyond a boundary that no point lies beyond.
        nodes_unknown: 1 where the ranks per node are unknown.
    """

    laws: Array
    power_law: Array
    evidence: Array
    fits: Array
    own_error: Array
    deficit: Array
    doublings: Array
    noise: Array
    strong: Array
    crosses: Array
    nodes_unknown: Array

    def __len__(self) -> int:
        return len(self.doublings)

    def rows(self, chosen: NDArray[np.bool_]) -> Situations:
        """The chosen rows."""
        return Situations(*(getattr(self, field.name)[chosen] for field in fields(self)))


def join(parts: Sequence[Situations]) -> Situations:
    """All rows of several situations of the stack, in order."""
    return Situations(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Situations)))


def situations(
    points: tuple[ScalingPoint, ...],
    places: Sequence[ScalingPoint],
    scaling: Scaling,
    nodes_known: bool = True,
) -> Situations:
    """Describe forecasts from the same measured points.

    Args:
        points: Measured points in ascending order of ranks, two at least.
        places: Places to forecast; their throughput is ignored.
        scaling: Weak or strong.
        nodes_known: Whether the nodes of the points are known.

    Returns:
        A row per place.
    """
    logs, last = law_logs(points, places, scaling)
    evidence, own = _past(points, scaling)
    counts = np.array([point.ranks for point in points], float)
    wanted = np.array([place.ranks for place in places], float)
    nearest = np.min(np.abs(np.log2(wanted[:, None] / counts[None, :])), axis=1)
    ahead = [bool(unmeasured(place.beyond, [point.beyond for point in points])) for place in places]
    rows = len(places)
    return Situations(
        laws=logs + _ANCHOR * last,
        power_law=logs[:, STACK.index(POWER)],
        evidence=np.tile(evidence, (rows, 1)),
        fits=np.tile(_fit_evidence(points, scaling), (rows, 1)),
        own_error=np.full(rows, own),
        deficit=np.full(rows, max(0.0, 1 - power_line(points)[0])),
        doublings=np.maximum(nearest, _LEAST_DOUBLINGS),
        noise=np.full(rows, _typical_noise(points)),
        strong=np.full(rows, float(scaling == "strong")),
        crosses=np.array(ahead, float),
        nodes_unknown=np.full(rows, float(not nodes_known)),
    )


def law_logs(points: tuple[ScalingPoint, ...], places: Sequence[ScalingPoint], scaling: Scaling) -> tuple[Array, Array]:
    """Logarithms of each law's throughput at ``places``, and each law's residual at the last point.

    Returns:
        Shapes (places, laws) and (laws,), in the order of ``STACK``; NaN and 0 for a law without a fit.
    """
    x = np.log([place.ranks for place in places])
    y = float(np.log(points[-1].throughput))
    slope, level = power_line(points)
    end = float(np.log(points[-1].ranks))
    logs = [level + slope * x, y + x - end]
    last = [y - level - slope * end, 0.0]
    for law in _FITTED:
        fitted = fit(law, points, scaling)
        if fitted is None:
            logs.append(np.full(len(places), np.nan))
            last.append(0.0)
        else:
            logs.append(np.log(np.maximum(fitted.throughput(places), 1e-300)))
            last.append(fitted.residuals[-1])
    return np.stack(logs, axis=1), np.array(last)


def power_line(points: Sequence[ScalingPoint]) -> tuple[float, float]:
    """The power law of a situation of the stack: exponent and intercept, by least squares of logarithms."""
    x = np.log([point.ranks for point in points])
    y = np.log([point.throughput for point in points])
    slope, level = np.polyfit(x, y, 1)
    return float(slope), float(level)


def _past(points: tuple[ScalingPoint, ...], scaling: Scaling) -> tuple[Array, float]:
    """Evidence for each law and the curve's own error, from its points one count ahead of every earlier origin."""
    evidence = np.zeros(len(STACK))
    squares = 0.0
    origins = range(_FIRST_ORIGIN, len(points))
    for count in origins:
        place = points[count]
        logs, last = law_logs(points[:count], [place], scaling)
        errors = np.log(place.throughput) - logs[0] - _ANCHOR * last
        growth = max(float(np.log2(place.ranks / points[count - 1].ranks)), _LEAST_DOUBLINGS) ** _PAST_GROWTH
        found = student_log_density(errors / (_PAST_SCALE * growth), _PAST_DEGREES)
        evidence += np.where(np.isnan(found), np.nanmin(found), found)
        squares += float(np.mean(errors[_IN_OWN_ERROR]) / growth) ** 2
    shrunk = (_PRIOR_ERRORS * _PAST_SCALE**2 + squares) / (_PRIOR_ERRORS + len(origins))
    return evidence, shrunk


def _fit_evidence(points: tuple[ScalingPoint, ...], scaling: Scaling) -> Array:
    """Evidence for each law from its residuals; the lowest for a law without a fit."""
    count = len(points)
    x = np.log([point.ranks for point in points])
    y = np.log([point.throughput for point in points])
    slope, level = power_line(points)
    found = [(y - level - slope * x, 2), (y - x - float(np.mean(y - x)), 1)]
    fits = [fit(law, points, scaling) for law in _FITTED]
    found += [(np.array(f.residuals), 1 + len(f.parameters)) if f else (np.full(count, np.inf), 0) for f in fits]
    floor = max(_LEAST_RESIDUAL, _typical_noise(points)) ** 2
    evidence = np.array(
        [-count / 2 * np.log(np.mean(residuals**2) + floor) - free / 2 * np.log(count) for residuals, free in found]
    )
    return np.where(np.isfinite(evidence), evidence, np.min(evidence[np.isfinite(evidence)]))


def _typical_noise(points: Sequence[ScalingPoint]) -> float:
    known = [point.noise for point in points if point.noise > 0]
    return float(np.sqrt(np.mean(np.square(known)))) if known else 0.0
