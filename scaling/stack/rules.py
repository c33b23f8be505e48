"""The simple rules that the stack is compared with: arithmetic or a single law, with the width it deserves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from saman.scaling.models.fitting import fit
from saman.scaling.models.laws import AMDAHL, USL, Law, ScalingPoint
from saman.scaling.stack.distribution import Mixtures, student_log_density
from saman.scaling.stack.situations import power_line
from saman.scaling.stack.training import ForecastCase, ForecastCases, source_weights
from saman.scaling.stack.weights import RuleWidth

Array = NDArray[np.float64]
_LEAST_SHARE = 0.05  # a falling straight line ends at this share of the last throughput
_START = np.array([np.log(0.1), 0.7, np.log(4.0)])
_SPREAD = np.array([2.0, 0.5, 0.5])


class Rule(str, Enum):
    """A simple rule. The values are stable: they are printed by ``--json``."""

    POWER_LAW = "power_law"
    STRAIGHT_LINE = "straight_line"
    CONSTANT_EFFICIENCY = "constant_efficiency"
    LAST_POINT = "last_point"
    AMDAHL = "amdahl"
    USL = "usl"
    POWER_LAW_TEXTBOOK = "power_law_textbook_interval"

    @property
    def words(self) -> str:
        """The name of the rule in tables."""
        return {
            Rule.POWER_LAW: "log–log power fit",
            Rule.STRAIGHT_LINE: "straight line",
            Rule.CONSTANT_EFFICIENCY: "efficiency stays as at the last point",
            Rule.LAST_POINT: "throughput stays as at the last point",
            Rule.AMDAHL: "Amdahl's law",
            Rule.USL: "Universal Scalability Law",
            Rule.POWER_LAW_TEXTBOOK: "log–log power fit, textbook interval",
        }[self]


CALIBRATED: tuple[Rule, ...] = tuple(rule for rule in Rule if rule is not Rule.POWER_LAW_TEXTBOOK)
_FITTED: Mapping[Rule, Law] = {Rule.AMDAHL: AMDAHL, Rule.USL: USL}


def rule_log(rule: Rule, points: tuple[ScalingPoint, ...], ranks: int) -> float:
    """Log throughput that a rule gives at ``ranks``."""
    last = points[-1]
    if rule in (Rule.POWER_LAW, Rule.POWER_LAW_TEXTBOOK):
        slope, level = power_line(points)
        return level + slope * float(np.log(ranks))
    if rule is Rule.CONSTANT_EFFICIENCY:
        return float(np.log(last.throughput * ranks / last.ranks))
    if rule is Rule.LAST_POINT:
        return float(np.log(last.throughput))
    if rule in _FITTED:
        fitted = fit(_FITTED[rule], points)
        assert fitted is not None  # a forecast has three points
        return float(np.log(fitted.throughput([ScalingPoint(ranks, 0.0)])[0]))
    slope, level = np.polyfit([point.ranks for point in points], [point.throughput for point in points], 1)
    return float(np.log(max(level + slope * ranks, _LEAST_SHARE * last.throughput)))


def rule_logs(rule: Rule, data: ForecastCases) -> Array:
    """Log throughput that a rule gives in each case."""
    return np.array([rule_log(rule, case.series.points[: case.origin], case.ranks) for case in data.cases])


def train_width(rule: Rule, data: ForecastCases) -> RuleWidth:
    """Learn the width of a rule: maximum log score, as for the stack, with as weak priors."""
    from scipy.optimize import minimize

    errors = data.outcomes - rule_logs(rule, data)
    weights = source_weights(data.sources)

    def loss(values: Array) -> float:
        scale = np.exp(values[0]) * data.at.doublings ** values[1]
        density = student_log_density(errors / scale, float(np.exp(values[2]))) - np.log(scale)
        return 0.5 * float((((values - _START) / _SPREAD) ** 2).sum()) - float(weights @ density)

    found = minimize(loss, _START, method="L-BFGS-B").x
    return RuleWidth(float(np.exp(found[0])), float(found[1]), float(np.exp(found[2])))


def rule_mixtures(rule: Rule, data: ForecastCases, width: RuleWidth) -> Mixtures:
    """The distributions of a rule with a learned width."""
    scales = width.scales(data.at.doublings)
    return Mixtures(
        np.ones((len(scales), 1)), rule_logs(rule, data)[:, None], scales[:, None], np.array([width.degrees])
    )


@dataclass(frozen=True)
class TextbookScores:
    """Log scores and limits of the textbook interval, in logarithms."""

    log_scores: Array
    low: Array
    high: Array


def textbook_scores(data: ForecastCases, level: float) -> TextbookScores:
    """The prediction interval of the log–log regression itself: Student t with n − 2 degrees of freedom.

    Source: Draper & Smith, Applied Regression Analysis (1998), §3.1.
    """
    rows = [_textbook(case, outcome, level) for case, outcome in zip(data.cases, data.outcomes, strict=True)]
    scores, low, high = (np.array(column) for column in zip(*rows, strict=True))
    return TextbookScores(scores, low, high)


def _textbook(case: ForecastCase, outcome: float, level: float) -> tuple[float, float, float]:
    from scipy.special import stdtrit

    points = case.series.points[: case.origin]
    x = np.log([point.ranks for point in points])
    y = np.log([point.throughput for point in points])
    slope, intercept = power_line(points)
    degrees = len(points) - 2
    place = float(np.log(case.ranks))
    variance = float(((y - intercept - slope * x) ** 2).sum()) / degrees
    leverage = 1 + 1 / len(x) + (place - x.mean()) ** 2 / float(((x - x.mean()) ** 2).sum())
    scale = max(float(np.sqrt(variance * leverage)), 1e-4)
    middle = intercept + slope * place
    reach = float(stdtrit(degrees, (1 + level) / 2)) * scale
    score = student_log_density(np.array([(outcome - middle) / scale]), degrees)[0] - np.log(scale)
    return float(score), middle - reach, middle + reach
