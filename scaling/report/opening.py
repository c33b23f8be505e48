"""The sentences that open a report: which series is faster, what it gains, where scaling stops paying, what limits it.

Each sentence names the test or the interval that it rests on, and claims nothing that they do not show.
"""

from __future__ import annotations

from collections.abc import Sequence

from saman.scaling.analysis.analysis import Analysis
from saman.scaling.analysis.baselines import Baseline, throughput_ratio
from saman.scaling.analysis.contrasts import Contrast
from saman.scaling.analysis.curves import Curve, common_ranks
from saman.scaling.analysis.points import CurvePoint
from saman.scaling.conclusions.bounds import find_bounds
from saman.scaling.statistics.drift import DriftTest
from saman.scaling.statistics.intervals import Estimate

# Scaling pays while n times the ranks give at least half of the ideal gain in throughput.
_LEAST_GAIN = 0.5
_MOST_NAMED = 3  # series in a sentence


def opening(analysis: Analysis) -> tuple[str, ...]:
    """The main results in three sentences; where series share a rank count, a comparison at that count comes first."""
    scaled = [curve for curve in analysis.drawable if curve.points_beyond_baseline]
    compared = _comparison(analysis)
    if not scaled:
        return (*compared, *_without_speedup(analysis))
    best = max(scaled, key=_order)
    point = best.points_beyond_baseline[-1]
    return (*compared, _gain(best, point), _where_it_stops(best, analysis.drift), _bound(best))


def _order(curve: Curve) -> tuple[bool, int, float]:
    """The curve that the next sentences describe: with cores of its own, of the largest count, the fastest."""
    last = curve.points_beyond_baseline[-1]
    return not curve.group.cores_shared, last.ranks, last.throughput.value


def _comparison(analysis: Analysis) -> tuple[str, ...]:
    """The fastest series at a common count against the others, by the rank tests of the table of differences."""
    ranks = common_ranks(analysis.drawable)
    here = [contrast for contrast in analysis.contrasts if contrast.ranks == ranks]
    if ranks is None or not here:
        return ()
    rates = {
        curve.label: point.throughput.value
        for curve in analysis.drawable
        for point in curve.points
        if point.ranks == ranks and any(curve.label in (contrast.series, contrast.against) for contrast in here)
    }
    fastest = max(rates, key=lambda label: rates[label])
    against = [_from(contrast, fastest) for contrast in here if fastest in (contrast.series, contrast.against)]
    on = f"on {_ranks(ranks)}, the largest count that {len(rates)} of {len(analysis.drawable)} series share"
    alike = [contrast for contrast in against if not contrast.verdict.different]
    if alike:
        shown = ", ".join(_test_in_words(contrast) for contrast in _slowest_first(alike)[:_MOST_NAMED])
        more = f", and {len(alike) - _MOST_NAMED} more" if len(alike) > _MOST_NAMED else ""
        return (f"No series is shown to be the fastest {on}: {fastest} against {shown}{more}.",)
    second = _slowest_first(against)[0]
    ratio = f"{second.ratio.value:.3g}× the throughput of {second.against}, the second"
    return (
        f"{fastest} is the fastest {on}: {ratio} {interval_in_words(second.ratio)}; rank test: {second.verdict.words}.",
    )


def _from(contrast: Contrast, label: str) -> Contrast:
    """The contrast as seen from ``label``: its ratio is throughput of ``label`` ÷ that of the other series."""
    return contrast if contrast.series == label else contrast.inverse()


def _slowest_first(contrasts: Sequence[Contrast]) -> list[Contrast]:
    return sorted(contrasts, key=lambda contrast: contrast.ratio.value)


def _test_in_words(contrast: Contrast) -> str:
    ratio = f"{contrast.ratio.value:.3g}× {interval_in_words(contrast.ratio)}"
    return f"{contrast.against} {ratio}, rank test: {contrast.verdict.words}"


def interval_in_words(estimate: Estimate, form: str = "{:.3g}", scale: float = 1.0) -> str:
    """Put an estimate's interval into words, or the number of repeats without an interval.

    Args:
        estimate: The estimate.
        form: Format of the limits.
        scale: Factor of the limits.

    Example:
        >>> from saman.scaling.statistics.intervals import Interval
        >>> interval_in_words(Estimate(0.91, 6, Interval(0.88, 0.94, 0.95, 0.969, "order statistics 1 and 6")))
        '(95% interval 0.88 to 0.94)'
    """
    if estimate.interval is None:
        return f"(no interval: {estimate.repeats} repeat{'s' if estimate.repeats != 1 else ''})"
    low, high = (form.format(scale * edge) for edge in (estimate.interval.low, estimate.interval.high))
    return f"({estimate.interval.level:.0%} interval {low} to {high})"


def _ranks(count: int) -> str:
    return f"{count} rank{'s' if count != 1 else ''}"


def _gain(curve: Curve, point: CurvePoint) -> str:
    """The speed-up at the largest count; a gain or a loss is claimed only if the interval excludes 1."""
    assert curve.baseline is not None
    assert point.speedup is not None
    assert point.efficiency is not None
    gain = f"{point.speedup.value:.3g}× the throughput of {_baseline_in_words(curve, curve.baseline)}"
    result = f"{gain} on {_ranks(point.ranks)} {interval_in_words(point.speedup)}, {_method(point.speedup)}"
    interval = point.speedup.interval
    if interval is not None and interval.low <= 1.0 <= interval.high:
        return f"{curve.label} shows no gain from more ranks: {result}."
    if point.speedup.value <= 1.0:
        return f"{curve.label} does not gain from more ranks: {result}."
    efficiency = interval_in_words(point.efficiency, "{:.0f}\u00a0%", 100)
    share = f"{100 * point.efficiency.value:.0f}\u00a0% {efficiency}"
    return f"{curve.label} reaches {result}: an efficiency of {share}."


def _method(estimate: Estimate) -> str:
    runs = f"over {estimate.repeats} run{'s' if estimate.repeats != 1 else ''}"
    if estimate.interval is None:
        return f"medians {runs}"
    return f"{estimate.interval.method.partition(',')[0]} {runs}"


def _baseline_in_words(curve: Curve, baseline: Baseline) -> str:
    return _ranks(baseline.ranks) if baseline.curve == curve.label else baseline.label


def _where_it_stops(curve: Curve, drift: DriftTest) -> str:
    """The first step between measured counts with too small a gain; it is shown if the interval says so too."""
    for before, after in zip(curve.points, curve.points[1:], strict=False):
        times = after.ranks / before.ranks
        least = 1 + _LEAST_GAIN * (times - 1)
        gain = throughput_ratio(after.runs, before.runs, drift.found)
        if gain.value < least:
            shown = gain.interval is not None and gain.interval.high < least
            verb = "stops" if shown else "may stop"
            doubt = "" if shown else f", which does not exclude {least:.3g}×"
            return (
                f"Scaling {verb} paying between {before.ranks} and {after.ranks} ranks: {times:.3g}× the ranks give "
                f"{gain.value:.2f}× the throughput {interval_in_words(gain)}{doubt}; paying is half of the ideal gain."
            )
    if len(curve.points) < 2:
        return "A single rank count does not show where scaling stops paying."
    before, after = curve.points[-2:]
    gain = throughput_ratio(after.runs, before.runs, drift.found)
    grows = "still grows" if gain.interval is not None and gain.interval.low > 1 else "is not shown to stop growing"
    return (
        f"Throughput {grows} at {after.ranks} ranks, the largest count measured: {gain.value:.2f}× that of "
        f"{_ranks(before.ranks)} {interval_in_words(gain)}."
    )


def _bound(curve: Curve) -> str:
    """The verdict of the table of bounds, which gives the whole evidence and what to change."""
    [verdict] = find_bounds([curve])
    point = curve.points[-1]
    on_ranks = f"{curve.label} on {_ranks(point.ranks)} is bound by {verdict.bound.value}"
    if point.breakdown.exchange is not None:
        return f"{on_ranks}: {verdict.evidence} ({_basis(point)})."
    fraction = (
        "" if point.serial_fraction is None else f"; the serial fraction is {point.serial_fraction:.1%} (Karp–Flatt)"
    )
    return f"{on_ranks}: {verdict.evidence}{fraction}."


def _basis(point: CurvePoint) -> str:
    return f"time stamps in every step, median over {len(point.runs)} run{'s' if len(point.runs) != 1 else ''}, no test"


def _without_speedup(analysis: Analysis) -> tuple[str, str, str]:
    points = [(curve, point) for curve in analysis.drawable for point in curve.points]
    if not points:
        return (
            "No curve can be drawn from these runs.",
            f"{len(analysis.measured_runs)} of {len(analysis.runs)} runs count.",
            f"The {len(analysis.findings)} findings below give the reasons.",
        )
    curve, point = max(points, key=lambda pair: pair[1].throughput.value)
    rate = f"{point.throughput.value:,.0f} samples per second {interval_in_words(point.throughput, '{:,.0f}')}"
    step = point.breakdown.seconds
    return (
        f"{curve.label} on {_ranks(point.ranks)} is the fastest: {rate}.",
        "Speed-up is unknown: no series has both a baseline and a larger rank count.",
        f"A step takes {1e3 * step:.3g} ms; input wait is {point.breakdown.input_wait / step:.0%} of it.",
    )
