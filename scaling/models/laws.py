"""Scaling laws: throughput as a function of ranks and nodes, with named, bounded parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from saman.scaling.models.boundaries import Boundary

Array = NDArray[np.float64]
Scaling = Literal["weak", "strong"]


@dataclass(frozen=True)
class ScalingPoint:
    """Throughput in samples per second at a rank count on ``nodes`` nodes; 0 for a point to predict.

    Attributes:
        noise: Relative standard deviation from run to run; 0 where it is unknown.
        boundaries: Boundaries that the point lies beyond, other than that of a node, which ``nodes`` tells.
    """

    ranks: int
    throughput: float
    nodes: int = 1
    noise: float = 0.0
    boundaries: frozenset[Boundary] = frozenset()

    @property
    def beyond(self) -> frozenset[Boundary]:
        """Every boundary that the point lies beyond."""
        return self.boundaries | {Boundary.NODE} if self.nodes > 1 else self.boundaries


@dataclass(frozen=True)
class RankCounts:
    """Ranks and nodes of several points, as arrays: the argument of a law."""

    ranks: Array
    nodes: Array
    scaling: Scaling = "weak"

    @property
    def per_node(self) -> Array:
        """Ranks on the fullest node."""
        return np.ceil(self.ranks / self.nodes)


def rank_counts(points: Sequence[ScalingPoint], scaling: Scaling = "weak") -> RankCounts:
    """Ranks and nodes of ``points`` as the laws take them."""
    ranks = np.array([point.ranks for point in points], float)
    return RankCounts(ranks, np.array([point.nodes for point in points], float), scaling)


@dataclass(frozen=True)
class Parameter:
    """A parameter with its bounds, the start of a fit, and its unit."""

    name: str
    low: float
    high: float
    start: float
    unit: str = ""


Relative = Callable[[RankCounts, Mapping[str, float]], Array]


@dataclass(frozen=True)
class Law:
    """A scaling law: throughput relative to a single rank as a function of rank counts and parameters.

    Attributes:
        parameters: The free parameters for given rank counts. The throughput of a single rank, the scale, is fitted
            with every law and not among them.
        relative: Relative throughput for rank counts and parameter values by name.
        has_parameters: Whether there is anything but the scale to fit.

    Example:
        >>> places = rank_counts([ScalingPoint(ranks, throughput=0.0) for ranks in (1, 2, 4)])
        >>> AMDAHL.relative(places, {"serial_fraction": 0.1}).round(2).tolist()
        [1.0, 1.82, 3.08]
    """

    name: str
    title: str
    source: str
    parameters: Callable[[RankCounts], tuple[Parameter, ...]]
    relative: Relative
    has_parameters: bool = True


def _fixed(*parameters: Parameter) -> Callable[[RankCounts], tuple[Parameter, ...]]:
    return lambda _: parameters


def _amdahl(at: RankCounts, named: Mapping[str, float]) -> Array:
    return np.asarray(at.ranks / (1 + named["serial_fraction"] * (at.ranks - 1)))


def _gustafson(at: RankCounts, named: Mapping[str, float]) -> Array:
    return np.asarray(at.ranks - named["serial_fraction"] * (at.ranks - 1))


def _usl(at: RankCounts, named: Mapping[str, float]) -> Array:
    n = at.ranks
    return np.asarray(n / (1 + named["contention"] * (n - 1) + named["coherency"] * n * (n - 1)))


def _power(at: RankCounts, named: Mapping[str, float]) -> Array:
    return np.asarray(at.ranks ** named["exponent"])


def _constant(at: RankCounts, named: Mapping[str, float]) -> Array:
    return np.asarray(at.ranks.astype(float))


_SERIAL = Parameter("serial_fraction", 0, 1, 0.01)
AMDAHL = Law("amdahl", "Amdahl", "Amdahl, AFIPS 30 (1967)", _fixed(_SERIAL), _amdahl)
GUSTAFSON = Law("gustafson", "Gustafson", "Gustafson, CACM 31(5) (1988)", _fixed(_SERIAL), _gustafson)
USL = Law(
    "usl",
    "Universal Scalability Law",
    "Gunther, Guerrilla Capacity Planning (2007), eq. 4.16",
    _fixed(Parameter("contention", 0, 1, 0.01), Parameter("coherency", 0, 0.1, 1e-4)),
    _usl,
)
POWER = Law(
    "power",
    "power law",
    "log-linear regression",
    _fixed(Parameter("exponent", 0, 1.05, 0.95)),
    _power,
)
CONSTANT = Law(
    "constant",
    "constant efficiency",
    "efficiency stays as at the last point",
    _fixed(),
    _constant,
    has_parameters=False,
)
