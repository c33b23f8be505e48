"""Everything a report says about runs, as values: points with intervals, tests, laws, predictions, findings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from saman.scaling.bootstrap import hierarchical_estimate, ratio_estimate
from saman.scaling.comparison import RankTest, Verdict, rank_test, verdicts
from saman.scaling.curves import Finding, Group, group_runs
from saman.scaling.fitting import FEWEST_POINTS
from saman.scaling.forecast import Calibration, Choice, Prediction, calibrate, choose, predict
from saman.scaling.intervals import Estimate, median_estimate
from saman.scaling.laws import Point
from saman.scaling.published import read_tracks
from saman.scaling.results import Run
from saman.scaling.spread import Straggler, karp_flatt, stragglers, variation_per_node
from saman.scaling.steady import outliers

_WINDOWS_POOLED = 50  # of a run, evenly taken; more do not move the median of all
_PAIRS_ALL = 8  # curves up to which every pair is compared; beyond, each against the fastest


@dataclass(frozen=True)
class Split:
    """Seconds of a step, medians over runs; ``exchange`` is none where exposed exchange was not measured."""

    compute: float
    exchange: float | None
    input_wait: float


@dataclass(frozen=True)
class CurvePoint:
    """What is known at one rank count of a curve. Speed-up and efficiency are against the curve's base."""

    ranks: int
    nodes: int
    runs: tuple[Run, ...]
    throughput: Estimate
    speedup: Estimate | None
    efficiency: Estimate | None
    serial_fraction: float | None
    split: Split
    step: Estimate
    outliers: tuple[str, ...]
    stragglers: tuple[Straggler, ...]
    variation: Mapping[str, float | None]
    joules_per_sample: float | None


@dataclass(frozen=True)
class Curve:
    """A curve with its base case, the law chosen for it and what that law predicts."""

    group: Group
    points: tuple[CurvePoint, ...]
    base: str | None
    choice: Choice | None
    predictions: tuple[Prediction, ...]

    @property
    def label(self) -> str:
        """The name of the curve."""
        return self.group.label


@dataclass(frozen=True)
class Contrast:
    """Two curves at one rank count: the ratio of their throughputs and whether they differ."""

    ranks: int
    one: str
    other: str
    ratio: Estimate
    test: RankTest
    verdict: Verdict


@dataclass(frozen=True)
class Analysis:
    """All of it. ``runs`` are all runs that were found, also those that do not count."""

    curves: tuple[Curve, ...]
    contrasts: tuple[Contrast, ...]
    runs: tuple[Run, ...]
    findings: tuple[Finding, ...]
    calibration: Calibration | None

    @property
    def drawn(self) -> tuple[Curve, ...]:
        """The curves that may be drawn."""
        return tuple(curve for curve in self.curves if curve.group.drawn)


def analyse(
    runs: Sequence[Run],
    *,
    base_ranks: int = 1,
    predict_at: Sequence[int] | None = None,
    findings: Sequence[Finding] = (),
) -> Analysis:
    """Everything about ``runs``; ``findings`` are what the caller found before (missing runs, for instance)."""
    groups = group_runs(runs)
    tracks = tuple(read_tracks())
    calibration = calibrate(tracks) if any(len(group.points) >= FEWEST_POINTS for group in groups) else None
    curves = tuple(_curve(group, groups, base_ranks, predict_at, calibration) for group in groups)
    contrasts = tuple(contrast([curve for curve in curves if curve.group.drawn]))
    found = [*findings, *_about_runs(runs), *(f for group in groups for f in group.findings)]
    found += [finding for curve in curves for finding in _about_curve(curve, base_ranks)]
    found += _about_outliers(curves)
    return Analysis(curves, contrasts, tuple(runs), tuple(found), calibration)


def _curve(
    group: Group,
    groups: Sequence[Group],
    base_ranks: int,
    predict_at: Sequence[int] | None,
    calibration: Calibration | None,
) -> Curve:
    base, base_name = _base(group, groups, base_ranks)
    points = tuple(
        _point(ranks, nodes, runs, base, base_ranks) for (ranks, nodes), runs in sorted(group.points.items())
    )
    if not group.drawn or len(points) < FEWEST_POINTS:
        return Curve(group, points, base_name, None, ())
    measured = tuple(Point(point.ranks, point.throughput.value, point.nodes) for point in points)
    choice = choose(measured, tuple(read_tracks()), group.scaling)
    if choice is None:
        return Curve(group, points, base_name, None, ())
    asked = [beyond(measured, ranks) for ranks in predict_at or (2 * measured[-1].ranks, 4 * measured[-1].ranks)]
    return Curve(group, points, base_name, choice, tuple(predict(choice.fit, asked, calibration)))


def beyond(measured: Sequence[Point], ranks: int) -> Point:
    """Where so many ranks would lie: on nodes as full as the fullest measured, on one node where only one was."""
    largest = measured[-1]
    if largest.nodes == 1:
        return Point(ranks, 0.0, 1)
    per_node = max(-(-point.ranks // point.nodes) for point in measured)
    return Point(ranks, 0.0, max(1, -(-ranks // per_node)))


def _base(group: Group, groups: Sequence[Group], base_ranks: int) -> tuple[tuple[Run, ...] | None, str | None]:
    """The runs that speed-ups are against: the curve's own, else those of ``single`` with the same settings."""
    own = [runs for (ranks, _), runs in group.points.items() if ranks == base_ranks]
    if own:
        return own[0], f"{group.label} on {base_ranks} rank{'s' if base_ranks > 1 else ''}"
    if base_ranks == 1:
        for other in groups:
            same = {k: v for k, v in other.settings.items() if k != "train.strategy"} == {
                k: v for k, v in group.settings.items() if k != "train.strategy"
            }
            if other.strategy == "single" and same and other.scaling == group.scaling and (1, 1) in other.points:
                return other.points[(1, 1)], f"{other.label} on 1 rank"
    return None, None


def _point(ranks: int, nodes: int, runs: tuple[Run, ...], base: tuple[Run, ...] | None, base_ranks: int) -> CurvePoint:
    rates = [run.throughput for run in runs]
    speedup = efficiency = fraction = None
    if base is not None and base is not runs:
        at_base = [run.throughput for run in base]
        speedup = ratio_estimate(rates, at_base)
        efficiency = ratio_estimate(rates, at_base, scale=base_ranks / ranks)
        fraction = karp_flatt(speedup.value, ranks / base_ranks)
    elif base is not None:
        speedup = efficiency = Estimate(1.0, len(runs), None, "the base case itself")
    flags = outliers(rates)
    nodes_of, own = _own_work(runs)
    joules = [run.joules / _samples(run) for run in runs if run.joules is not None and _samples(run) > 0]
    return CurvePoint(
        ranks,
        nodes,
        runs,
        median_estimate(rates),
        speedup,
        efficiency,
        fraction,
        _split(runs),
        _step(runs),
        tuple(run.id for run, flag in zip(runs, flags, strict=True) if flag),
        tuple(stragglers(own, nodes_of)) if _exchange_known(runs) else (),
        variation_per_node(_by_node(own, nodes_of)),
        float(np.median(joules)) if joules else None,
    )


def _samples(run: Run) -> float:
    return run.epochs[-1].samples if run.epochs else 0.0


def _exchange_known(runs: Iterable[Run]) -> bool:
    return all(run.exchange_seconds is not None for run in runs)


def _own_work(runs: Sequence[Run]) -> tuple[dict[int, str], dict[int, float]]:
    """Node and own seconds per step of each process, medians over runs."""
    nodes: dict[int, str] = {}
    seconds: dict[int, list[float]] = {}
    for run in runs:
        for process in run.processes:
            seconds.setdefault(process.rank, []).append(process.own_seconds)
            nodes.setdefault(process.rank, run.node_of.get(process.rank, "?"))
    return nodes, {rank: float(np.median(values)) for rank, values in seconds.items()}


def _by_node(own: Mapping[int, float], nodes: Mapping[int, str]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for rank, value in own.items():
        found.setdefault(nodes[rank], []).append(value)
    return found


def _split(runs: Sequence[Run]) -> Split:
    step = float(np.median([run.step_seconds for run in runs]))
    wait = float(np.median([run.input_wait_seconds for run in runs]))
    known = [run.exchange_seconds for run in runs if run.exchange_seconds is not None]
    exchange = float(np.median(known)) if len(known) == len(runs) else None
    return Split(max(0.0, step - wait - (exchange or 0.0)), exchange, wait)


def _step(runs: Sequence[Run]) -> Estimate:
    """Seconds per step over the windows of all runs; windows enter, so runs are drawn with theirs."""
    thinned = [run.step_times[:: -(-len(run.step_times) // _WINDOWS_POOLED)] for run in runs]
    return hierarchical_estimate(thinned, lambda windows: float(np.median(windows)), resamples=499)


def contrast(curves: Sequence[Curve]) -> list[Contrast]:
    """Every pair of curves at every count that both have, corrected for their number (Holm)."""
    pairs = list(combinations(curves, 2))
    if len(curves) > _PAIRS_ALL:
        fastest = max(curves, key=lambda curve: curve.points[-1].throughput.value)
        pairs = [(fastest, curve) for curve in curves if curve is not fastest]
    found = []
    for one, other in pairs:
        theirs = {(point.ranks, point.nodes): point for point in other.points}
        for point in one.points:
            against = theirs.get((point.ranks, point.nodes))
            if against is not None:
                found.append((point.ranks, one.label, other.label, point.runs, against.runs))
    return judged(found)


def judged(pairs: Sequence[tuple[int, str, str, Sequence[Run], Sequence[Run]]]) -> list[Contrast]:
    """Ratios and corrected tests of (ranks, name, name, runs, runs)."""
    rates = [([run.throughput for run in ours], [run.throughput for run in theirs]) for *_, ours, theirs in pairs]
    tests = [rank_test(ours, theirs) for ours, theirs in rates]
    return [
        Contrast(ranks, one, other, ratio_estimate(*values), test, verdict)
        for (ranks, one, other, _, _), values, test, verdict in zip(pairs, rates, tests, verdicts(tests), strict=True)
    ]


def _about_runs(runs: Sequence[Run]) -> Iterable[Finding]:
    """What went wrong with runs and their records."""
    if not runs:
        yield Finding("no_runs", "no run was found")
    broken = [run for run in runs if not run.usable]
    for run in broken[:50]:
        kind = "bad_throughput" if "zero or not a number" in str(run.problem) else "run_left_out"
        if "schema version" in str(run.problem):
            kind = "other_schema"
        yield Finding(kind, f"run {run.id} ({run.strategy}, {run.ranks} ranks) does not count: {run.problem}")
    if len(broken) > 50:
        yield Finding("run_left_out", f"and {len(broken) - 50} more runs that do not count")
    counted = [
        ("torn_records", "torn", "torn lines"),
        ("other_schema", "foreign_schema", "records of another schema version"),
    ]
    counted += [("not_finite", "not_finite", "records with NaN, zero or missing measures")]
    counted += [("incomplete_windows", "incomplete", "windows that lack a rank")]
    for kind, name, what in counted:
        hit = [(run.id, getattr(run.left_out, name)) for run in runs if run.usable and getattr(run.left_out, name)]
        if hit:
            which = ", ".join(run for run, _ in hit[:5]) + (f" and {len(hit) - 5} more" if len(hit) > 5 else "")
            yield Finding(kind, f"{sum(count for _, count in hit)} {what} were left out in {len(hit)} runs: {which}")
    adrift = [run.id for run in runs if run.usable and not run.steady.settled]
    if adrift:
        yield Finding("never_settled", f"{len(adrift)} runs never reached a steady state: {', '.join(adrift[:5])}")


def _about_outliers(curves: Sequence[Curve]) -> Iterable[Finding]:
    """Runs that stand apart, all in one note."""
    apart = [(curve, point, run) for curve in curves for point in curve.points for run in point.outliers]
    if apart:
        told = ", ".join(f"{run} ({curve.label}, {point.ranks} ranks)" for curve, point, run in apart[:5])
        more = f" and {len(apart) - 5} more, in the table of points" if len(apart) > 5 else ""
        yield Finding(
            "outliers", f"{len(apart)} runs stand apart from their repeats and are kept: {told}{more}", note=True
        )


def _about_curve(curve: Curve, base_ranks: int) -> Iterable[Finding]:
    if not curve.group.drawn:
        return
    if curve.base is None:
        ranks = "1 rank" if base_ranks == 1 else f"{base_ranks} ranks"
        yield Finding("missing_base", f"{curve.label}: no run on {ranks} counts, so no speed-up or efficiency is shown")
    single = [str(point.ranks) for point in curve.points if len(point.runs) == 1]
    if single:
        at = f"{', '.join(single)} ranks"
        yield Finding("single_repeat", f"{curve.label}: a single repeat at {at}; points without intervals are shown")
