"""The three sentences that open a report: what scales best, where it stops paying, what limits it."""

from __future__ import annotations

from saman.scaling.analysis.analysis import Analysis
from saman.scaling.analysis.curves import Curve
from saman.scaling.analysis.points import CurvePoint
from saman.scaling.statistics.intervals import Estimate

# Twice the ranks that give less than half of what they should: more node-hours than time saved.
_PAYS = 0.5


def opening(analysis: Analysis) -> tuple[str, str, str]:
    """What a person would say of these runs."""
    scaled = [(curve, point) for curve in analysis.drawn if (point := _furthest(curve)) is not None]
    if not scaled:
        return _without_a_base(analysis)
    most = max(point.ranks for _, point in scaled)
    furthest = [pair for pair in scaled if pair[1].ranks == most]
    best, point = max(furthest, key=lambda pair: pair[1].efficiency.value if pair[1].efficiency else 0.0)
    return _best(best, point), _stops(best), _limits(best, point)


def with_interval(estimate: Estimate, form: str = "{:.3g}", scale: float = 1.0) -> str:
    """``0.91 (95 % interval 0.88 to 0.94)``, or the value and that it has none."""
    value = form.format(scale * estimate.value)
    if estimate.interval is None:
        repeats = f"{estimate.repeats} repeat{'s' if estimate.repeats != 1 else ''}"
        return f"{value} (no interval: {repeats})"
    low, high = (form.format(scale * edge) for edge in (estimate.interval.low, estimate.interval.high))
    return f"{value} ({estimate.interval.level:.0%} interval {low} to {high})"


def _furthest(curve: Curve) -> CurvePoint | None:
    """The largest count of a curve that has a speed-up over a smaller one."""
    known = [point for point in curve.points if point.speedup is not None and not _is_base(point)]
    return known[-1] if known else None


def _is_base(point: CurvePoint) -> bool:
    return point.serial_fraction is None  # Karp–Flatt needs more ranks than the base has


def _best(curve: Curve, point: CurvePoint) -> str:
    assert point.speedup is not None
    assert point.efficiency is not None
    gain = with_interval(point.speedup)
    share = with_interval(point.efficiency, "{:.0f}\u00a0%", 100)
    if point.speedup.value <= 1.0:
        return (
            f"Nothing gains by more ranks; {curve.label} loses least: {gain} times {curve.base} on {point.ranks} ranks."
        )
    return f"{curve.label} scales best: {gain} times {curve.base} on {point.ranks} ranks, an efficiency of {share}."


def _stops(curve: Curve) -> str:
    points = [point for point in curve.points if point.efficiency is not None]
    for before, after in zip(points, points[1:], strict=False):
        more = after.ranks / before.ranks
        gain = after.throughput.value / before.throughput.value
        if (gain - 1) / (more - 1) < _PAYS:
            return (
                f"It stops paying between {before.ranks} and {after.ranks} ranks: {more:.3g} times the ranks give "
                f"{gain:.2f} times the throughput."
            )
    if len(points) < 2:
        return "Where it stops paying cannot be said from one rank count."
    before, after = points[-2:]
    gain = after.throughput.value / before.throughput.value
    return (
        f"It pays up to the largest count measured: from {before.ranks} to {after.ranks} ranks throughput grows "
        f"{gain:.2f} times."
    )


def _limits(curve: Curve, point: CurvePoint) -> str:
    split = point.split
    step = split.seconds
    slow = point.stragglers[0] if point.stragglers else None
    if slow is not None and split.exchange is not None and slow.slower > split.exchange / step:
        return (
            f"What limits it is rank {slow.rank} on {slow.node}, which takes {slow.slower:.0%} longer than its peers."
        )
    if split.exchange is not None:
        parts = {"the exposed exchange": split.exchange, "waiting for input": split.input_wait}
        if split.neighbours:
            parts["that stages wait for each other"] = split.neighbours
        name = max(parts, key=lambda part: parts[part])
        share, of = f"{parts[name] / step:.0%}", f"a step of {1e3 * step:.3g} ms on {point.ranks} ranks"
        return f"What limits it is {name}: {share} of {of}."
    wait = split.input_wait / step
    serial = (
        f"a serial fraction of {point.serial_fraction:.1%} (Karp–Flatt)" if point.serial_fraction is not None else ""
    )
    if wait > (point.serial_fraction or 0.0):
        return f"What limits it is waiting for input: {wait:.0%} of a step on {point.ranks} ranks."
    return f"What limits it shows as {serial} on {point.ranks} ranks; the exposed exchange was not measured."


def _without_a_base(analysis: Analysis) -> tuple[str, str, str]:
    points = [(curve, point) for curve in analysis.drawn for point in curve.points]
    if not points:
        counted = sum(run.usable for run in analysis.runs)
        return (
            "No curve can be drawn from these runs.",
            f"{counted} of {len(analysis.runs)} runs count.",
            f"{len(analysis.findings)} findings below say why.",
        )
    curve, point = max(points, key=lambda pair: pair[1].throughput.value)
    rate = with_interval(point.throughput, "{:,.0f}")
    ranks = f"{point.ranks} rank{'s' if point.ranks != 1 else ''}"
    split = point.split
    step = split.seconds
    return (
        f"{curve.label} on {ranks} is the fastest: {rate} samples per second.",
        "How it scales cannot be said: no series has both its base case and a larger rank count.",
        f"A step takes {1e3 * step:.3g} ms, of which {split.input_wait / step:.0%} is waiting for input.",
    )
