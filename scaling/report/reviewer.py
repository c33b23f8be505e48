"""Twelve rules for reporting performance, each with the evidence in a report or what is missing.

Source of the rules: Hoefler & Belli, Scientific Benchmarking of Parallel Computing Systems, SC '15.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from saman.scaling.analysis.analysis import Analysis
from saman.scaling.analysis.curves import Curve
from saman.scaling.analysis.findings import FindingKind
from saman.scaling.analysis.points import CurvePoint
from saman.scaling.analysis.run_values import ExcludedRun
from saman.scaling.statistics.rank_test import Significance

_MOST_NAMED = 4
_FEWEST_WINDOWS = 20  # for a 5 % point of windows that is not simply the slowest of them
_MOST_IDLE = 0.1  # share of a node's cores that may stay unused without a reason
_INCOMPLETE = (FindingKind.MISSING_RUNS, FindingKind.OTHER_RUNS)


@dataclass(frozen=True)
class RuleCheck:
    """A rule, and whether a report follows it: ``evidence`` if it does, else what is ``missing``."""

    number: int
    rule: str
    met: bool
    evidence: str
    missing: str


@dataclass(frozen=True)
class _Judgement:
    """The evidence for a rule, and what is missing; the rule is met if nothing is."""

    evidence: str
    missing: tuple[str, ...] = ()


def review_rules(analysis: Analysis) -> tuple[RuleCheck, ...]:
    """Judge a report by the twelve rules, in their order.

    A rule without anything to judge, such as comparisons of a single series, is met; the evidence says why.
    """
    checks = []
    for number, (rule, judge) in enumerate(_RULES, 1):
        found = judge(analysis) if analysis.drawable else _Judgement("", ("a curve that can be drawn",))
        checks.append(RuleCheck(number, rule, not found.missing, found.evidence, "; ".join(found.missing)))
    return tuple(checks)


def _base_case(analysis: Analysis) -> _Judgement:
    evidence, missing = [], []
    for curve in analysis.drawable:
        base = curve.baseline
        if base is None:
            missing.append(f"{curve.label}: runs of the base case")
            continue
        kind = "a single process" if base.ranks == 1 else f"{base.ranks} ranks"
        rate = f"{base.throughput.value:,.4g} samples/s"
        if base.throughput.interval is not None:
            rate += f" [{base.throughput.interval.low:,.4g}, {base.throughput.interval.high:,.4g}]"
        evidence.append(f"{curve.label}: {base.label}, {kind}, {rate}")
    return _Judgement(_named(evidence), tuple(missing))


def _subsets(analysis: Analysis) -> _Judgement:
    missing = [finding.text for finding in analysis.findings if finding.kind in _INCOMPLETE]
    excluded = [run for run in analysis.runs if isinstance(run, ExcludedRun)]
    for curve in analysis.drawable:
        idle = _idle_cores(curve.points[-1])
        if idle:
            missing.append(f"{curve.label}: the reason why {idle}")
    told = f"each of {len(excluded)} excluded runs has its reason" if excluded else "no run is excluded"
    return _Judgement(f"{len(analysis.measured_runs)} of {len(analysis.runs)} runs count; {told}", tuple(missing))


def _idle_cores(point: CurvePoint) -> str:
    """How many cores of a node stay unused at a point; empty where few do or the cores are unknown."""
    facts = point.runs[0].facts
    if not facts.cores_per_rank or not facts.node_cores:
        return ""
    used = facts.cores_per_rank * -(-point.ranks // point.nodes)
    if used >= (1 - _MOST_IDLE) * facts.node_cores:
        return ""
    return f"{facts.node_cores - used} of {facts.node_cores} cores of a node are unused on {point.ranks} ranks"


def _means(analysis: Analysis) -> _Judgement:
    return _Judgement("rates are Σ samples ÷ Σ seconds, which is their weighted harmonic mean; medians over runs")


def _ratios(analysis: Analysis) -> _Judgement:
    return _Judgement("speed-up and efficiency are ratios of two medians of rates; no ratio is averaged")


def _intervals(analysis: Analysis) -> _Judgement:
    points = [(curve, point) for curve in analysis.drawable for point in curve.points]
    without = [_place(curve, point) for curve, point in points if point.throughput.interval is None]
    attained = [point.throughput.interval.attained for _, point in points if point.throughput.interval is not None]
    evidence = f"{len(attained)} of {len(points)} points have an interval"
    if attained:
        evidence += f" of the median that covers at least {min(attained):.1%}"
    reason = "are withheld because runs drift" if analysis.drift.found else "need more repeats"
    return _Judgement(evidence, (f"intervals, which {reason}: {_named(without)}",) if without else ())


def _normality(analysis: Analysis) -> _Judgement:
    return _Judgement(
        "no measurement is taken as normal: order statistics, bootstrap over runs, exact rank tests. Intervals of law "
        "parameters alone are linearised"
    )


def _comparisons(analysis: Analysis) -> _Judgement:
    found = analysis.contrasts
    few = [
        f"{contrast.series} against {contrast.against} on {contrast.ranks} ranks"
        for contrast in found
        if contrast.verdict.verdict is Significance.TOO_FEW_REPEATS
    ]
    if not found:
        shared = len(analysis.drawable) > 1
        missing = ("a rank count that two series share",) if shared else ()
        return _Judgement("a single series: nothing is compared", missing)
    kind = "signed-rank tests within repeats" if analysis.drift.found else "rank tests"
    evidence = f"{len(found)} {kind}, corrected for their number (Holm)"
    return _Judgement(evidence, (f"repeats for a verdict: {_named(few)}",) if few else ())


def _percentiles(analysis: Analysis) -> _Judgement:
    short = [run.facts.id for run in analysis.measured_runs if run.windows.counted < _FEWEST_WINDOWS]
    uneven = [finding for finding in analysis.findings if finding.kind is FindingKind.UNEVEN_WINDOWS]
    evidence = "median, 5 % and 95 % points of windows stand beside the sustained rate"
    if uneven:
        evidence += f"; they differ: {uneven[0].text}"
    missing = f"{_FEWEST_WINDOWS} windows, so that a 5 % point is more than the slowest window, in {_named(short)}"
    return _Judgement(evidence, (missing,) if short else ())


def _setup(analysis: Analysis) -> _Judgement:
    unknown = []
    for name in ("hardware", "software", "placement"):
        without = [run.facts.id for run in analysis.measured_runs if getattr(run.facts, name) == "unknown"]
        if without:
            unknown.append(f"the {name} of {_named(without)}")
    factors = sorted({key for curve in analysis.drawable for key in curve.group.settings})
    counts = sorted({point.ranks for curve in analysis.drawable for point in curve.points})
    levels = ", ".join(map(str, counts))
    evidence = f"ranks {levels}; {len(factors)} settings, hardware, software, placement and a command for each run"
    return _Judgement(evidence, tuple(unknown))


def _timing(analysis: Analysis) -> _Judgement:
    impossible = [finding.text for finding in analysis.findings if finding.kind is FindingKind.IMPOSSIBLE_EXCHANGE]
    unmeasured = [
        _place(curve, point)
        for curve in analysis.drawable
        for point in curve.points
        if point.ranks > 1 and point.breakdown.exchange is None
    ]
    if unmeasured:
        impossible.append(f"the exchange of {_named(unmeasured)}")
    return _Judgement(
        "a window is timed by the monotonic clock of each rank and lasts as long as on the slowest; the sums of all "
        "ranks end each step, without a further barrier; time stamps in every step part it; medians over runs",
        tuple(impossible),
    )


def _bounds(analysis: Analysis) -> _Judgement:
    without = [curve.label for curve in analysis.drawable if curve.baseline is None]
    evidence = "the ideal line from the baseline, beside every curve"
    bounds = [(curve.label, bound) for curve in analysis.drawable if (bound := curve.core_bound(1)) is not None]
    if bounds:
        cores = _named([f"{label} {bound:,.4g} samples/s" for label, bound in bounds])
        evidence += f"; the cores of a node, by CPU seconds per sample: {cores}"
    return _Judgement(evidence, (f"a baseline of {_named(without)}",) if without else ())


def _plots(analysis: Analysis) -> _Judgement:
    short = [curve.label for curve in analysis.drawable if len(curve.points) == 2]
    return _Judgement(
        "medians with intervals, every run as a mark, windows and ranks of the largest runs; lines join neighbouring "
        "rank counts",
        (f"a third rank count, without which a line shows no trend: {_named(short)}",) if short else (),
    )


def _place(curve: Curve, point: CurvePoint) -> str:
    return f"{curve.label} on {point.ranks} rank{'s' if point.ranks != 1 else ''}"


def _named(names: Sequence[str] | Iterable[str]) -> str:
    listed = list(names)
    more = len(listed) - _MOST_NAMED
    return "; ".join(listed[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


_RULES: tuple[tuple[str, Callable[[Analysis], _Judgement]], ...] = (
    (
        "Say whether the base of a speed-up is a single parallel process or the best serial execution, and how fast it "
        "is.",
        _base_case,
    ),
    ("Give the reason for reporting subsets or not using all system resources.", _subsets),
    ("Summarise costs by the arithmetic mean, rates by the harmonic mean.", _means),
    ("Do not summarise ratios; summarise the costs or rates that they rest on.", _ratios),
    ("Say whether values are deterministic; of others give confidence intervals.", _intervals),
    ("Do not assume normal data without a check.", _normality),
    ("Compare values that are not deterministic in a statistically sound way.", _comparisons),
    ("Check whether mean or median is of use; some problems need other percentiles.", _percentiles),
    ("Document all varying factors, their levels and the complete set-up.", _setup),
    ("Report how parallel time is measured, synchronised and summarised.", _timing),
    ("Show upper bounds of performance if possible.", _bounds),
    ("Plot what is needed to interpret results; join points by lines only where there is a trend.", _plots),
)
