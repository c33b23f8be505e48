"""Learns the weights of the stack from published curves: maximum log score with weak priors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from saman.scaling.models.fitting import FEWEST_POINTS
from saman.scaling.models.series import ScalingSeries
from saman.scaling.stack.situations import Situations, join, situations
from saman.scaling.stack.weights import StackWeights

Array = NDArray[np.float64]
_ITERATIONS = 80
# Forecasts of a source count as n^(1 − 0.25): a source with many curves is worth more than another, but not n times.
_SOURCE_POWER = 0.25
_START = StackWeights(
    constant=-0.5, amdahl=-0.5, usl=-1.0, ring=-1.0, hierarchical=-1.0,
    strong_constant=0.0, strong_amdahl=0.0, strong_exchange=0.0,
    fit_evidence=float(np.log(0.3)), growth=0.7, base=float(np.log(0.03)),
    own_error=float(np.log(0.5)), deficit=float(np.log(0.3)), disagreement=float(np.log(0.4)),
    strong=0.0, degrees=float(np.log(6)),
    cliff=-2.5, cliff_per_doubling=0.3, cliff_drop=float(np.log(0.4)), cliff_spread=float(np.log(0.25)),
    boundary=-1.0, boundary_drop=float(np.log(0.25)),
)  # fmt: skip
# Standard deviations of the priors around the start: wide for weights and scales, narrow for rare cases.
_SPREAD = StackWeights(
    constant=1, amdahl=1, usl=1, ring=1, hierarchical=1,
    strong_constant=0.7, strong_amdahl=0.7, strong_exchange=0.7,
    fit_evidence=0.7, growth=0.15, base=0.7, own_error=0.7, deficit=0.7, disagreement=0.7,
    strong=0.3, degrees=0.5,
    cliff=0.7, cliff_per_doubling=0.3, cliff_drop=0.4, cliff_spread=0.4, boundary=0.7, boundary_drop=0.4,
)  # fmt: skip


@dataclass(frozen=True)
class ForecastCase:
    """A forecast of a published point from the smaller counts of its curve."""

    series: ScalingSeries
    origin: int
    target: int

    @property
    def fitted_to(self) -> int:
        """The largest fitted rank count."""
        return self.series.points[self.origin - 1].ranks

    @property
    def ranks(self) -> int:
        """The predicted rank count."""
        return self.series.points[self.target].ranks

    @property
    def measured(self) -> float:
        """The measured throughput of this case for training the stack."""
        return self.series.points[self.target].throughput


@dataclass(frozen=True)
class ForecastCases:
    """Forecasts of published points, with their situations and outcomes (log throughput) in the same order."""

    cases: tuple[ForecastCase, ...]
    at: Situations
    outcomes: Array

    @property
    def sources(self) -> NDArray[np.str_]:
        """The source of each forecast."""
        return np.array([case.series.source for case in self.cases])

    def rows(self, chosen: NDArray[np.bool_]) -> ForecastCases:
        """The chosen forecasts."""
        kept = tuple(case for case, keep in zip(self.cases, chosen, strict=True) if keep)
        return ForecastCases(kept, self.at.rows(chosen), self.outcomes[chosen])


def cases_of(tracks: Sequence[ScalingSeries]) -> ForecastCases:
    """Every forecast of a larger count from the three or more smaller counts of its curve.

    Raises:
        ValueError: No series has four points.
    """
    cases, parts, outcomes = [], [], []
    for track in tracks:
        for origin in range(FEWEST_POINTS, len(track.points)):
            ahead = track.points[origin:]
            parts.append(situations(track.points[:origin], ahead, track.scaling, track.nodes_known))
            cases += [ForecastCase(track, origin, target) for target in range(origin, len(track.points))]
            outcomes += [float(np.log(point.throughput)) for point in ahead]
    if not parts:
        raise ValueError("no series has four points")
    return ForecastCases(tuple(cases), join(parts), np.array(outcomes))


def source_weights(sources: NDArray[np.str_]) -> Array:
    """Weights of forecasts with a mean of 1, so that a source of n forecasts counts as n^(1 − 0.25)."""
    _, inverse, counts = np.unique(sources, return_inverse=True, return_counts=True)
    weights = counts[inverse] ** -_SOURCE_POWER
    return np.asarray(weights * len(weights) / weights.sum())


def train(data: ForecastCases) -> StackWeights:
    """Find the weights with the largest log score (posterior mode).

    Args:
        data: Forecasts of the sources to learn from; a source that is to be judged must not be among them.

    Returns:
        The weights.
    """
    from scipy.optimize import minimize

    start, spread = np.array(astuple(_START)), np.array(astuple(_SPREAD))
    weights = source_weights(data.sources)

    def loss(values: Array) -> float:
        mixture = _weights(values).mixtures(data.at)
        penalty = 0.5 * float((((values - start) / spread) ** 2).sum())
        return penalty - float(weights @ mixture.log_density(data.outcomes))

    found = minimize(loss, start, method="L-BFGS-B", options={"maxiter": _ITERATIONS})
    return _weights(found.x)


def _weights(values: Array) -> StackWeights:
    names = [field.name for field in fields(StackWeights)]
    return StackWeights(**{name: float(value) for name, value in zip(names, values, strict=True)})
