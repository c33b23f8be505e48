"""The stack: the weights of the laws and the width of their mixture, as a function of the situation.

The laws are weighted by what they predicted, not by how they fit: a prior per law and scaling mode, learned by the log
score on whole sources left out (stacking: Yao et al., Bayesian Analysis 13, 2018), times the likelihood that each law
gave this curve's own points before they were seen (prequential: Dawid, JRSS A 147, 1984), tempered.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saman.runs.files.whole import write_json
from saman.scaling.models.laws import POWER, Scaling
from saman.scaling.stack.distribution import Mixtures
from saman.scaling.stack.situations import STACK, Situations

Array = NDArray[np.float64]
SHIPPED_WEIGHTS = Path(__file__).with_name("weights.json")
_LEAST_SCALE = 0.01  # of log throughput: published figures are rounded, and runs differ
# The share of the power law in the pool; chosen by leave-one-source-out on the shipped table (docs/scaling.md).
POWER_LAW_SHARE = 0.2
_EVIDENCE = 0.4  # power of the curve's own evidence; errors of neighbouring counts are not independent


@dataclass(frozen=True)
class StackWeights:
    """The parameters of the stack. Scales are logarithms of scales of log throughput, per doubling^growth.

    Attributes:
        constant, amdahl, usl, ring, hierarchical: Log prior weight of a law, relative to the power law, weak scaling.
        strong_constant, strong_amdahl, strong_exchange: What strong scaling adds (exchange: ring and hierarchical).
        fit_evidence: Log of the power of the evidence of a fit.
        growth: Power of the distance in doublings.
        base: Scale on a smooth curve without loss.
        own_error, deficit, disagreement: Factors of the curve's own error, its loss, and the spread of the laws.
        strong: Log factor of the scale under strong scaling.
        degrees: Log degrees of freedom.
        cliff, cliff_per_doubling: Log odds of a cliff at a doubling, and what each further doubling adds.
        cliff_drop, cliff_spread: Log of the mean loss at a cliff (in logarithms of throughput) and of its spread.
        boundary, boundary_drop: Log odds of a loss at an unmeasured boundary, and the log of that loss.
    """

    constant: float
    amdahl: float
    usl: float
    ring: float
    hierarchical: float
    strong_constant: float
    strong_amdahl: float
    strong_exchange: float
    fit_evidence: float
    growth: float
    base: float
    own_error: float
    deficit: float
    disagreement: float
    strong: float
    degrees: float
    cliff: float
    cliff_per_doubling: float
    cliff_drop: float
    cliff_spread: float
    boundary: float
    boundary_drop: float

    def priors(self, scaling: Scaling) -> dict[str, float]:
        """Prior weights of the laws by name; they sum to 1."""
        logs = self._log_priors(np.array([float(scaling == "strong")]))[0]
        shares = np.exp(logs - logs.max())
        return {law.name: float(share) for law, share in zip(STACK, shares / shares.sum(), strict=True)}

    def law_weights(self, at: Situations) -> Array:
        """Weights of the laws in each situation, shape (n, laws); 0 for a law without a fit."""
        logs = self._log_priors(at.strong) + _EVIDENCE * at.evidence + np.exp(self.fit_evidence) * at.fits
        logs = np.where(np.isnan(at.laws), -np.inf, logs)
        shares = np.exp(logs - logs.max(axis=1, keepdims=True))
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))

    def boundary_probability(self) -> float:
        """Probability of a loss beyond a boundary that was not measured."""
        return float(1 / (1 + np.exp(-self.boundary)))

    def cliff_probabilities(self, at: Situations) -> tuple[Array, Array]:
        """Probabilities of a cliff anywhere ahead (such as a switch), and of a loss at an unmeasured boundary."""
        anywhere = 1 / (1 + np.exp(-(self.cliff + self.cliff_per_doubling * (at.doublings - 1))))
        return anywhere, at.crosses * self.boundary_probability()

    def mixtures(self, at: Situations) -> Mixtures:
        """The distributions: a component per law, one for a cliff, one for a boundary."""
        weights = self.law_weights(at)
        laws = np.where(np.isnan(at.laws), 0.0, at.laws)
        middle = (weights * laws).sum(axis=1)
        apart = (weights * (laws - middle[:, None]) ** 2).sum(axis=1)
        scale = self._scale(at, apart)
        anywhere, boundary = self.cliff_probabilities(at)
        open_road = (1 - boundary) * (1 - anywhere)
        drop, at_boundary = np.exp(self.cliff_drop), np.exp(self.boundary_drop)
        cliff = np.sqrt(scale**2 + np.exp(2 * self.cliff_spread))
        behind = np.sqrt(scale**2 + (at_boundary / 2) ** 2)
        return Mixtures(
            weights=np.column_stack([weights * open_road[:, None], anywhere, boundary * (1 - anywhere)]),
            locations=np.column_stack([laws, middle - drop, middle - at_boundary]),
            scales=np.column_stack([np.repeat(scale[:, None], laws.shape[1], axis=1), cliff, behind]),
            degrees=np.full(laws.shape[1] + 2, np.exp(self.degrees)),
        )  # fmt: skip

    def _log_priors(self, strong: Array) -> Array:
        weak = np.array([0.0, self.constant, self.amdahl, self.usl, self.ring, self.hierarchical])
        added = np.array([0, self.strong_constant, self.strong_amdahl, 0, self.strong_exchange, self.strong_exchange])
        return np.asarray(weak[None, :] + strong[:, None] * added[None, :])

    def _scale(self, at: Situations, apart: Array) -> Array:
        """Scale of a component: distance × (base, own error, loss), the spread of the laws, and run-to-run noise."""
        factor = np.exp(self.strong * at.strong)
        here = (
            np.exp(2 * self.base) + np.exp(2 * self.own_error) * at.own_error + np.exp(2 * self.deficit) * at.deficit**2
        )
        grown = at.doublings ** (2 * self.growth) * factor**2 * here
        return np.asarray(np.sqrt(_LEAST_SCALE**2 + grown + np.exp(2 * self.disagreement) * apart + at.noise**2))


@dataclass(frozen=True)
class RuleWidth:
    """Student t distribution around a rule: scale × doublings^growth, learned on other sources like the stack."""

    scale: float
    growth: float
    degrees: float

    def scales(self, doublings: Array) -> Array:
        """The scale at each distance."""
        return np.asarray(self.scale * doublings**self.growth)


@dataclass(frozen=True)
class PooledStack:
    """The stack pooled with the power law in its learned width (linear opinion pool: Stone, Ann. Math. Stat. 32, 1961).

    The log score of the pool is at least that of the power law plus the logarithm of the power law's share: whatever
    the curve does, a forecast loses no more than that against the simple rule.

    Attributes:
        weights: Of the laws.
        power_law: The width of the power law, learned from the same forecasts.
    """

    weights: StackWeights
    power_law: RuleWidth

    def mixtures(self, at: Situations) -> Mixtures:
        """The distributions: those of the laws and cliffs, and the power law with its share."""
        laws = self.weights.mixtures(at)
        share = np.full((len(at), 1), POWER_LAW_SHARE)
        scales = self.power_law.scales(at.doublings)
        return Mixtures(
            weights=np.column_stack([(1 - share) * laws.weights, share]),
            locations=np.column_stack([laws.locations, at.power_law]),
            scales=np.column_stack([laws.scales, scales]),
            degrees=np.append(laws.degrees, self.power_law.degrees),
        )

    def law_weights(self, at: Situations) -> Array:
        """Weights of the laws in each situation, with the share of the power law; shape (n, laws)."""
        shares = (1 - POWER_LAW_SHARE) * self.weights.law_weights(at)
        shares[:, STACK.index(POWER)] += POWER_LAW_SHARE
        return shares

    def boundary_probability(self) -> float:
        """Probability of a loss beyond a boundary that was not measured."""
        return (1 - POWER_LAW_SHARE) * self.weights.boundary_probability()

    def cliff_probabilities(self, at: Situations) -> Array:
        """Probability in each situation of a cliff anywhere ahead, or of a loss at an unmeasured boundary."""
        anywhere, boundary = self.weights.cliff_probabilities(at)
        return np.asarray((1 - POWER_LAW_SHARE) * (1 - (1 - anywhere) * (1 - boundary)))


@dataclass(frozen=True)
class TrainedStack(PooledStack):
    """A pooled stack with its origin: what it was trained on, and how past intervals fitted.

    Attributes:
        table: SHA-256 of the series they were trained on.
        predictions: Forecasts of the training.
        sources: Sources of these forecasts.
        misses: |ln(measured ÷ median)| ÷ half the interval of each forecast, each source left out; ascending quantiles.
        far: Factor on widths beyond four times the largest known count (``scaling.stack.conformal``).
    """

    table: str
    predictions: int
    sources: int
    misses: tuple[float, ...]
    far: float = 1.0

    def write(self, path: Path) -> None:
        """Put the weights at ``path``."""
        write_json(path, {"schema": 1, **asdict(self)})


@lru_cache(maxsize=4)
def shipped_stack(path: Path = SHIPPED_WEIGHTS) -> TrainedStack:
    """The shipped weights, trained on the shipped table of published curves."""
    value: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return TrainedStack(
        weights=StackWeights(**{name: float(number) for name, number in value["weights"].items()}),
        table=str(value["table"]),
        predictions=int(value["predictions"]),
        sources=int(value["sources"]),
        power_law=RuleWidth(**{name: float(number) for name, number in value["power_law"].items()}),
        misses=tuple(float(number) for number in value["misses"]),
        far=float(value.get("far", 1.0)),
    )
