"""Judges the stack and the simple rules on published curves: every source is predicted by what others taught."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from saman.scaling.models.series import NOMINAL, SUPPORTED_RATIO, ScalingSeries
from saman.scaling.stack.conformal import cross_widenings, far_widening, interval_misses
from saman.scaling.stack.distribution import Mixtures
from saman.scaling.stack.forecast import ALARM_PROBABILITY, SHORTFALL
from saman.scaling.stack.rules import CALIBRATED, Rule, rule_logs, rule_mixtures, textbook_scores, train_width
from saman.scaling.stack.scores import Gain, clustered_gain, clustered_share, interval_scores
from saman.scaling.stack.training import ForecastCases, cases_of, train
from saman.scaling.stack.weights import PooledStack, RuleWidth, TrainedStack

Array = NDArray[np.float64]
_MISS_QUANTILES = 100
_FEWEST_IN_CLASS = 10
TOLERANCE = 0.05  # of coverage, as a share


class CoverageVerdict(str, Enum):
    """What the interval of a coverage shows of the promise to be within 5 points of nominal. Values are printed."""

    WITHIN = "within"
    OFF = "off"
    UNDETERMINED = "undetermined"


@dataclass(frozen=True)
class Verdicts:
    """Scores of a forecaster in the order of the cases; ``middle``, ``low`` and ``high`` are logarithms."""

    log_scores: Array
    interval_scores: Array
    middle: Array
    low: Array
    high: Array

    def covered(self, outcomes: Array) -> NDArray[np.bool_]:
        """Whether each interval holds its outcome."""
        return np.asarray((self.low <= outcomes) & (outcomes <= self.high))


@dataclass(frozen=True)
class Validation:
    """Every forecast of a table, judged.

    Attributes:
        data: The forecasts and their outcomes.
        stack: The stack's verdicts.
        rules: Those of the simple rules.
        shortfall_probability: The stack's probability of more than 15 % below the power law.
        trained_on: Names of the sources that taught at least one forecast.
    """

    data: ForecastCases
    stack: Verdicts
    rules: Mapping[Rule, Verdicts]
    shortfall_probability: Array
    trained_on: tuple[str, ...]
    level: float = NOMINAL


@dataclass(frozen=True)
class ClassResult:
    """Results of a class of forecasts, such as strong scaling.

    Attributes:
        coverage_low, coverage_high: 95 % interval of the coverage, clustered by source.
        within_tolerance: Whether the coverage is within 5 points of nominal; None with fewer than ten forecasts.
        verdict: Whether the interval of the coverage lies within these 5 points, beside them, or over an edge.
        log_score_gain, interval_score_gain: Over the power law, in this class.
    """

    name: str
    predictions: int
    sources: int
    coverage: float
    log_score: float
    interval_score: float
    median_abs_error: float
    within_tolerance: bool | None
    coverage_low: float
    coverage_high: float
    verdict: CoverageVerdict
    log_score_gain: Gain
    interval_score_gain: Gain


@dataclass(frozen=True)
class RuleComparison:
    """The stack against a rule: gains in nats of log score, and as a share of the rule's interval score."""

    rule: Rule
    rule_log_score: float
    rule_interval_score: float
    rule_coverage: float
    rule_median_abs_error: float
    rule_mean_abs_error: float
    log_score_gain: Gain
    interval_score_gain: Gain


@dataclass(frozen=True)
class AlarmScore:
    """Alarms raised before a point was measured: right, missed and false, over ``forecasts``."""

    forecasts: int
    shortfalls: int
    hits: int
    misses: int
    false_alarms: int


def validate(
    tracks: Sequence[ScalingSeries],
    teachers: Sequence[ScalingSeries],
    held_back: bool = False,
    level: float = NOMINAL,
    far: float | None = None,
) -> Validation | None:
    """Forecast and judge every series of a table.

    Args:
        tracks: The series to judge.
        teachers: Other series to learn from, such as the shipped table.
        held_back: Whether to learn from ``teachers`` only; otherwise also from the other sources of ``tracks``.
        level: Coverage of the intervals.
        far: Factor on widths beyond 4×; by default from the misses of the other sources of ``tracks``.

    Returns:
        The judged forecasts; None if no series has four points. A source never teaches its own forecasts, nor does a
        series with the same points under another name.
    """
    judged = [track for track in tracks if len(track.points) > 3]
    if not judged:
        return None
    data = cases_of(judged)
    parts: list[_Part] = []
    taught: set[str] = set()
    learned: dict[tuple[str, ...], _Learned] = {}
    for source in sorted(set(data.sources)):
        chosen = data.sources == source
        known = _teachers(source, judged, teachers, held_back)
        if not known:
            continue
        taught |= {track.source for track in known}
        key = tuple(f"{track.source}\t{track.id}" for track in known)
        if key not in learned:  # sources that were kept back all learn from the same series
            learned[key] = _learn(cases_of(known))
        parts.append(_judge(data.rows(chosen), chosen, learned[key], level))
    return _assemble(data, [*_widened(data, parts, level, far)], tuple(sorted(taught)), level) if parts else None


def _teachers(
    source: str, judged: Sequence[ScalingSeries], teachers: Sequence[ScalingSeries], held_back: bool
) -> list[ScalingSeries]:
    """The series that may teach a source: of other sources, with other points, each once."""
    own = {_points_key(track) for track in judged if track.source == source}
    found: dict[tuple[tuple[int, float], ...], ScalingSeries] = {}
    for track in [*teachers, *(() if held_back else judged)]:
        if track.source != source and _points_key(track) not in own and len(track.points) > 3:
            found.setdefault(_points_key(track), track)
    return list(found.values())


def _points_key(track: ScalingSeries) -> tuple[tuple[int, float], ...]:
    return tuple((point.ranks, point.throughput) for point in track.points)


@dataclass(frozen=True)
class _Part:
    chosen: NDArray[np.bool_]
    mixtures: Mixtures
    stack: Verdicts
    rules: Mapping[Rule, Verdicts]
    shortfall: Array


@dataclass(frozen=True)
class _Learned:
    """What series taught: the stack, and the widths of the rules."""

    stack: PooledStack
    widths: Mapping[Rule, RuleWidth]


def _learn(known: ForecastCases) -> _Learned:
    widths = {rule: train_width(rule, known) for rule in CALIBRATED}
    return _Learned(PooledStack(train(known), widths[Rule.POWER_LAW]), widths)


def _judge(here: ForecastCases, chosen: NDArray[np.bool_], known: _Learned, level: float) -> _Part:
    """Forecast a source with what others taught."""
    mixtures = known.stack.mixtures(here.at)
    expected = rule_logs(Rule.POWER_LAW, here)
    rules = {rule: _verdicts(rule_mixtures(rule, here, width), here, level) for rule, width in known.widths.items()}
    textbook = textbook_scores(here, level)
    rules[Rule.POWER_LAW_TEXTBOOK] = Verdicts(
        textbook.log_scores,
        interval_scores(textbook.low, textbook.high, here.outcomes, level),
        expected,
        textbook.low,
        textbook.high,
    )
    shortfall = mixtures.cumulative(expected + float(np.log(1 - SHORTFALL)))
    return _Part(chosen, mixtures, _verdicts(mixtures, here, level), rules, shortfall)


def _widened(data: ForecastCases, parts: Sequence[_Part], level: float, far: float | None) -> Iterable[_Part]:
    """The parts with wider distributions of distant forecasts."""
    misses = np.zeros(len(data.outcomes))
    for part in parts:
        own = part.stack
        misses[part.chosen] = interval_misses(own.low, own.middle, own.high, data.outcomes[part.chosen])
    judged = np.any([part.chosen for part in parts], axis=0)
    distant = ~_near(data) & judged
    factors = cross_widenings(misses, data, distant) if far is None else np.where(distant, far, 1.0)
    for part in parts:
        wider = part.mixtures.widened(factors[part.chosen])
        yield replace(part, mixtures=wider, stack=_verdicts(wider, data.rows(part.chosen), level))


def _verdicts(mixtures: Mixtures, here: ForecastCases, level: float) -> Verdicts:
    low, high = mixtures.quantiles((1 - level) / 2), mixtures.quantiles((1 + level) / 2)
    return Verdicts(
        log_scores=mixtures.log_density(here.outcomes),
        interval_scores=interval_scores(low, high, here.outcomes, level),
        middle=mixtures.quantiles(0.5),
        low=low,
        high=high,
    )


def _assemble(data: ForecastCases, parts: Sequence[_Part], taught: tuple[str, ...], level: float) -> Validation:
    order = np.concatenate([np.flatnonzero(part.chosen) for part in parts])
    back = np.argsort(order)
    known = np.zeros(len(data.outcomes), bool)
    known[order] = True

    def joined(parts_of: Iterable[Verdicts]) -> Verdicts:
        several = list(parts_of)
        names = ("log_scores", "interval_scores", "middle", "low", "high")
        return Verdicts(*(np.concatenate([getattr(part, name) for part in several])[back] for name in names))

    return Validation(
        data=data.rows(known),
        stack=joined(part.stack for part in parts),
        rules={rule: joined(part.rules[rule] for part in parts) for rule in parts[0].rules},
        shortfall_probability=np.concatenate([part.shortfall for part in parts])[back],
        trained_on=taught,
        level=level,
    )


def near(found: Validation) -> NDArray[np.bool_]:
    """The forecasts at up to four times the largest fitted count, which enter the totals."""
    return _near(found.data)


def _near(data: ForecastCases) -> NDArray[np.bool_]:
    return np.array([case.ranks <= SUPPORTED_RATIO * case.fitted_to for case in data.cases])


_Members = Callable[[Validation], NDArray[np.bool_]]
_CLASSES: dict[str, _Members] = {
    "mode: weak": lambda found: found.data.at.strong == 0,
    "mode: strong": lambda found: found.data.at.strong == 1,
    "distance: up to 2×": lambda found: found.data.at.doublings <= 1 + 1e-9,
    "distance: 2–4×": lambda found: found.data.at.doublings > 1 + 1e-9,
    "boundary: node not measured": lambda found: found.data.at.crosses == 1,
    "boundary: none": lambda found: (found.data.at.crosses == 0) & (found.data.at.nodes_unknown == 0),
    "boundary: nodes unknown": lambda found: found.data.at.nodes_unknown == 1,
}


def class_results(found: Validation) -> list[ClassResult]:
    """Coverage and scores by mode, distance and boundary, up to 4×; beyond, a class of its own."""
    supported = near(found)
    rows = [_class_result("all up to 4×", found, supported)]
    rows += [_class_result(name, found, supported & members(found)) for name, members in _CLASSES.items()]
    rows.append(_class_result("distance: beyond 4×", found, ~supported))
    return [row for row in rows if row is not None]


def _class_result(name: str, found: Validation, members: NDArray[np.bool_]) -> ClassResult | None:
    count = int(members.sum())
    if not count:
        return None
    covered = found.stack.covered(found.data.outcomes)[members]
    coverage = float(covered.mean())
    low, high = clustered_share(covered, found.data.sources[members])
    rule = _comparison(found, Rule.POWER_LAW, found.rules[Rule.POWER_LAW], members)
    return ClassResult(
        name=name,
        predictions=count,
        sources=len(set(found.data.sources[members])),
        coverage=coverage,
        log_score=float(found.stack.log_scores[members].mean()),
        interval_score=float(found.stack.interval_scores[members].mean()),
        median_abs_error=_error(found.stack, found.data.outcomes, members),
        within_tolerance=abs(coverage - found.level) <= TOLERANCE if count >= _FEWEST_IN_CLASS else None,
        coverage_low=low,
        coverage_high=high,
        verdict=_coverage_verdict(low, high, found.level),
        log_score_gain=rule.log_score_gain,
        interval_score_gain=rule.interval_score_gain,
    )


def _coverage_verdict(low: float, high: float, level: float) -> CoverageVerdict:
    if high < level - TOLERANCE or low > level + TOLERANCE:
        return CoverageVerdict.OFF
    inside = level - TOLERANCE <= low and high <= level + TOLERANCE
    return CoverageVerdict.WITHIN if inside else CoverageVerdict.UNDETERMINED


def _error(verdicts: Verdicts, outcomes: Array, members: NDArray[np.bool_]) -> float:
    """Median |predicted ÷ measured − 1|."""
    return float(np.median(np.abs(np.expm1(verdicts.middle - outcomes)[members])))


def comparisons(found: Validation) -> list[RuleComparison]:
    """The stack against every simple rule, up to 4×."""
    return [_comparison(found, rule, verdicts, near(found)) for rule, verdicts in found.rules.items()]


def _comparison(found: Validation, rule: Rule, other: Verdicts, members: NDArray[np.bool_]) -> RuleComparison:
    sources, outcomes = found.data.sources[members], found.data.outcomes
    log_gain = (found.stack.log_scores - other.log_scores)[members]
    interval_gain = (other.interval_scores - found.stack.interval_scores)[members]
    return RuleComparison(
        rule=rule,
        rule_log_score=float(other.log_scores[members].mean()),
        rule_interval_score=float(other.interval_scores[members].mean()),
        rule_coverage=float(other.covered(outcomes)[members].mean()),
        rule_median_abs_error=_error(other, outcomes, members),
        rule_mean_abs_error=float(np.abs(other.middle - outcomes)[members].mean()),
        log_score_gain=clustered_gain(log_gain, sources),
        interval_score_gain=clustered_gain(interval_gain, sources, other.interval_scores[members]),
    )


def alarm_score(found: Validation) -> AlarmScore:
    """Alarms raised before the point was measured, against what was measured, up to 4×.

    An alarm is a probability of at least a quarter that the point falls more than 15 % below the power law of the
    points before. It is a hit if the point does, else false.
    """
    members = near(found)
    measured = found.data.outcomes - found.rules[Rule.POWER_LAW].middle
    short = (measured < np.log(1 - SHORTFALL))[members]
    raised = (found.shortfall_probability >= ALARM_PROBABILITY)[members]
    return AlarmScore(
        forecasts=int(members.sum()),
        shortfalls=int(short.sum()),
        hits=int((short & raised).sum()),
        misses=int((short & ~raised).sum()),
        false_alarms=int((~short & raised).sum()),
    )


def train_shipped(tracks: Sequence[ScalingSeries]) -> TrainedStack:
    """Train the weights to ship: on all series, with the misses of intervals that saw every source left out."""
    found = validate(tracks, (), far=1.0)
    assert found is not None
    own, close = found.stack, near(found)
    every = interval_misses(own.low, own.middle, own.high, found.data.outcomes)
    misses = every[close]
    levels = (np.arange(_MISS_QUANTILES) + 0.5) / _MISS_QUANTILES
    quantiles = tuple(round(float(value), 4) for value in np.quantile(misses, levels))
    data = cases_of([track for track in tracks if len(track.points) > 3])
    return TrainedStack(
        weights=train(data),
        power_law=train_width(Rule.POWER_LAW, data),
        table=table_digest(tracks),
        predictions=len(data.outcomes),
        sources=len(set(data.sources)),
        misses=quantiles,
        far=round(far_widening(every[~close], found.data.sources[~close]), 4),
    )


def table_digest(tracks: Iterable[ScalingSeries]) -> str:
    """SHA-256 of the series that teach: sources, kinds of scaling, nodes and points."""
    lines = sorted(
        f"{track.source}\t{track.id}\t{track.scaling}\t{track.nodes_known}\t"
        + " ".join(f"{point.ranks}:{point.nodes}:{point.throughput:.9g}" for point in track.points)
        for track in tracks
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
