"""The three sentences that open a report: what scales best, where scaling stops paying, what limits it."""

from __future__ import annotations

from saman.scaling.analysis.analysis import Analysis
from saman.scaling.analysis.baselines import Baseline
from saman.scaling.analysis.curves import Curve
from saman.scaling.analysis.points import CurvePoint
from saman.scaling.statistics.intervals import Estimate

# Scaling pays while n times the ranks give at least half of the ideal gain in throughput.
_LEAST_GAIN = 0.5


def opening(analysis: Analysis) -> tuple[str, str, str]:
    """The main results in three sentences."""
    scaled = [(curve, curve.points_beyond_baseline[-1]) for curve in analysis.drawable if curve.points_beyond_baseline]
    if not scaled:
        return _without_speedup(analysis)
    most = max(point.ranks for _, point in scaled)
    largest = [pair for pair in scaled if pair[1].ranks == most]
    best, point = max(largest, key=lambda pair: pair[1].efficiency.value if pair[1].efficiency else 0.0)
    return _best(best, point), _where_it_stops(best), _limit(point)


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


def _best(curve: Curve, point: CurvePoint) -> str:
    assert curve.baseline is not None
    assert point.speedup is not None
    assert point.efficiency is not None
    gain = f"{point.speedup.value:.3g}× the throughput of {_baseline_in_words(curve, curve.baseline)}"
    result = f"{gain} on {_ranks(point.ranks)} {interval_in_words(point.speedup)}"
    if point.speedup.value <= 1.0:
        return f"No series gains from more ranks; {curve.label} loses least: {result}."
    interval = interval_in_words(point.efficiency, "{:.0f}\u00a0%", 100)
    return (
        f"{curve.label} scales best: {result}, an efficiency of {100 * point.efficiency.value:.0f}\u00a0% {interval}."
    )


def _baseline_in_words(curve: Curve, baseline: Baseline) -> str:
    return _ranks(baseline.ranks) if baseline.curve == curve.label else baseline.label


def _where_it_stops(curve: Curve) -> str:
    """The first step between measured counts with too small a gain."""
    for before, after in zip(curve.points, curve.points[1:], strict=False):
        times = after.ranks / before.ranks
        gain = after.throughput.value / before.throughput.value
        if (gain - 1) / (times - 1) < _LEAST_GAIN:
            return (
                f"Scaling stops paying between {before.ranks} and {after.ranks} ranks: {times:.3g}× the ranks give "
                f"{gain:.2f}× the throughput."
            )
    if len(curve.points) < 2:
        return "A single rank count does not show where scaling stops paying."
    before, after = curve.points[-2:]
    gain = after.throughput.value / before.throughput.value
    return (
        f"Throughput still grows at {after.ranks} ranks, the largest count measured: {gain:.2f}× that of "
        f"{_ranks(before.ranks)}."
    )


def _limit(point: CurvePoint) -> str:
    """The largest loss at a point: a straggler, the exchange, the input, or waits between stages."""
    split, on_ranks = point.breakdown, f"on {_ranks(point.ranks)}"
    step = split.seconds
    if split.exchange is None:
        return _limit_without_exchange(point)
    slowest = point.stragglers[0] if point.stragglers else None
    if slowest is not None and slowest.slower > split.exchange / step:
        return f"The limit is rank {slowest.rank} on {slowest.node}, {slowest.slower:.0%} slower than its peers."
    parts = {
        "exposed exchange": split.exchange,
        "input wait": split.input_wait,
        "the wait of stages for each other": split.neighbours,
    }
    name = max(parts, key=lambda part: parts[part])
    return f"The limit is {name}: {parts[name] / step:.0%} of a step of {1e3 * step:.3g} ms {on_ranks}."


def _limit_without_exchange(point: CurvePoint) -> str:
    wait, fraction = point.breakdown.input_wait / point.breakdown.seconds, point.serial_fraction or 0.0
    if wait > fraction:
        return f"The limit is input wait: {wait:.0%} of a step on {_ranks(point.ranks)}."
    return (
        f"The serial fraction is {fraction:.1%} on {_ranks(point.ranks)} (Karp–Flatt); its cause is unknown, because "
        "exposed exchange was not measured."
    )


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
