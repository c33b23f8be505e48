"""The distribution of a forecast: a mixture of Student t distributions of log throughput, one per law and per cliff."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_BISECTIONS = 60


def student_log_density(z: Array, degrees: Array | float) -> Array:
    """Log density of the standard Student t distribution; scipy.stats is ten times slower on small arrays."""
    from scipy.special import gammaln

    constant = gammaln((degrees + 1) / 2) - gammaln(degrees / 2) - 0.5 * np.log(degrees * np.pi)
    return np.asarray(constant - (degrees + 1) / 2 * np.log1p(z * z / degrees))


@dataclass(frozen=True)
class Mixtures:
    """Mixtures of log throughput, a row each.

    Attributes:
        weights, locations, scales: Of shape (n, components).
        degrees: Degrees of freedom of each component, of shape (components,).
    """

    weights: Array
    locations: Array
    scales: Array
    degrees: Array

    def log_density(self, logs: Array) -> Array:
        """Log density at a log throughput per row."""
        from scipy.special import logsumexp

        z = (logs[:, None] - self.locations) / self.scales
        with np.errstate(divide="ignore"):
            terms = np.log(self.weights) + student_log_density(z, self.degrees) - np.log(self.scales)
        return np.asarray(logsumexp(terms, axis=1))

    def cumulative(self, logs: Array) -> Array:
        """Probability below a log throughput per row."""
        from scipy.special import stdtr

        z = (logs[:, None] - self.locations) / self.scales
        return np.asarray((self.weights * stdtr(self.degrees, z)).sum(axis=1))

    def quantiles(self, probability: float) -> Array:
        """Log throughput at a probability, by bisection."""
        reach = 60 * self.scales.max(axis=1)
        low, high = self.locations.min(axis=1) - reach, self.locations.max(axis=1) + reach
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            below = self.cumulative(middle) < probability
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return np.asarray((low + high) / 2)

    def widened(self, factors: Array) -> Mixtures:
        """The mixtures with all distances from the median multiplied by a factor per row."""
        middle, by = self.quantiles(0.5)[:, None], factors[:, None]
        return Mixtures(self.weights, middle + by * (self.locations - middle), by * self.scales, self.degrees)

    def row(self, index: int, widening: float = 1.0) -> ForecastDistribution:
        """A row as a value."""
        parts = (self.weights[index], self.locations[index], self.scales[index])
        weights, locations, scales = (tuple(float(value) for value in part) for part in parts)
        return ForecastDistribution(weights, locations, scales, tuple(map(float, self.degrees)), widening)


@dataclass(frozen=True)
class ForecastDistribution:
    """The distribution of the throughput of a forecast.

    Attributes:
        weights: Of the components; they sum to 1.
        locations: Log throughput of each component.
        scales: Scale of each component, in logarithms.
        degrees: Degrees of freedom of each component.
        widening: Factor on all distances from the median, from the track record of a machine; 1 without one.
    """

    weights: tuple[float, ...]
    locations: tuple[float, ...]
    scales: tuple[float, ...]
    degrees: tuple[float, ...]
    widening: float = 1.0

    def _mixture(self) -> Mixtures:
        weights, locations, scales = (np.array([part]) for part in (self.weights, self.locations, self.scales))
        return Mixtures(weights, locations, scales, np.array(self.degrees))

    @property
    def median(self) -> float:
        """Median throughput."""
        return float(np.exp(self._mixture().quantiles(0.5)[0]))

    def quantile(self, probability: float) -> float:
        """Throughput at a probability."""
        mixture = self._mixture()
        middle, value = (float(mixture.quantiles(each)[0]) for each in (0.5, probability))
        return float(np.exp(middle + self.widening * (value - middle)))

    def interval(self, level: float) -> tuple[float, float]:
        """The central interval of a coverage."""
        return self.quantile((1 - level) / 2), self.quantile((1 + level) / 2)

    def below(self, throughput: float) -> float:
        """Probability of less than ``throughput``."""
        return float(self._mixture().cumulative(np.array([self._narrowed(throughput)]))[0])

    def log_score(self, throughput: float) -> float:
        """Log density of the logarithm of ``throughput``: larger is better (Gneiting & Raftery, JASA 102, 2007)."""
        density = self._mixture().log_density(np.array([self._narrowed(throughput)]))[0]
        return float(density - np.log(self.widening))

    def _narrowed(self, throughput: float) -> float:
        middle = float(np.log(self.median)) if self.widening != 1 else 0.0
        return float(middle + (np.log(throughput) - middle) / self.widening)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for a record."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ForecastDistribution:
        """Take the distribution out of plain values; older records have the same degrees for all components."""
        weights, locations, scales = (
            tuple(float(number) for number in value[name]) for name in ("weights", "locations", "scales")
        )
        known = value["degrees"]
        degrees = tuple(map(float, known)) if isinstance(known, Sequence) else (float(known),) * len(weights)
        return cls(weights, locations, scales, degrees, float(value.get("widening", 1.0)))
