"""Everything a report says about runs, as values: points with intervals, tests, laws, predictions, findings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from saman.scaling.analysis.curves import Curve, beyond
from saman.scaling.analysis.findings import Finding
from saman.scaling.analysis.groups import Group, group_runs
from saman.scaling.analysis.points import make_point
from saman.scaling.analysis.results import Run
from saman.scaling.analysis.review import about_curve, about_outliers, about_runs
from saman.scaling.models.fitting import FEWEST_POINTS
from saman.scaling.models.forecast import Calibration, calibrate, choose, predict
from saman.scaling.models.laws import ScalingPoint
from saman.scaling.models.published import read_tracks
from saman.scaling.statistics.bootstrap import ratio_estimate
from saman.scaling.statistics.intervals import Estimate
from saman.scaling.statistics.rank_test import AdjustedTest, RankTest, rank_test, verdicts

_PAIRS_ALL = 8  # curves up to which every pair is compared; beyond, each against the fastest


@dataclass(frozen=True)
class Contrast:
    """Two curves at one rank count: the ratio of their throughputs and whether they differ."""

    ranks: int
    one: str
    other: str
    ratio: Estimate
    test: RankTest
    verdict: AdjustedTest


@dataclass(frozen=True)
class Analysis:
    """All of it. ``runs`` are all runs that were found, also those that do not count."""

    curves: tuple[Curve, ...]
    contrasts: tuple[Contrast, ...]
    runs: tuple[Run, ...]
    findings: tuple[Finding, ...]
    calibration: Calibration | None
    asked: tuple[int, ...] | None = None  # rank counts that were asked for

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
    found = [*findings, *about_runs(runs), *(f for group in groups for f in group.findings)]
    found += [finding for curve in curves for finding in about_curve(curve, base_ranks)]
    found += about_outliers(curves)
    return Analysis(
        curves, contrasts, tuple(runs), tuple(found), calibration, tuple(predict_at) if predict_at else None
    )


def _curve(
    group: Group,
    groups: Sequence[Group],
    base_ranks: int,
    predict_at: Sequence[int] | None,
    calibration: Calibration | None,
) -> Curve:
    base, base_name = _base(group, groups, base_ranks)
    points = tuple(
        make_point(ranks, nodes, runs, base, base_ranks) for (ranks, nodes), runs in sorted(group.points.items())
    )
    if not group.drawn or len(points) < FEWEST_POINTS:
        return Curve(group, points, base_name, None, ())
    measured = tuple(ScalingPoint(point.ranks, point.throughput.value, point.nodes) for point in points)
    choice = choose(measured, tuple(read_tracks()), group.scaling)
    if choice is None:
        return Curve(group, points, base_name, None, ())
    asked = [beyond(measured, ranks) for ranks in predict_at or (2 * measured[-1].ranks, 4 * measured[-1].ranks)]
    return Curve(group, points, base_name, choice, tuple(predict(choice.fit, asked, calibration)))


def _base(group: Group, groups: Sequence[Group], base_ranks: int) -> tuple[tuple[Run, ...] | None, str | None]:
    """The runs that speed-ups are against: the curve's own, else one rank with the same settings.

    That is ``single``, and for a pipeline also a pipeline of one stage.
    """
    own = [runs for (ranks, _), runs in group.points.items() if ranks == base_ranks]
    if own:
        return own[0], f"{group.label} on {base_ranks} rank{'s' if base_ranks > 1 else ''}"
    if base_ranks == 1:
        for strategy in ("single", "pipeline") if group.strategy == "pipeline" else ("single",):
            for other in groups:
                alike = trained(other) == trained(group) and other.scaling == group.scaling
                if other.strategy == strategy and alike and (1, 1) in other.points:
                    return other.points[(1, 1)], f"{other.label} on 1 rank"
    return None, None


def trained(group: Group) -> dict[str, object]:
    """The settings of a curve without those that say how the work is divided among ranks."""
    divided = ("train.strategy", "train.pipeline")
    return {key: value for key, value in group.settings.items() if not key.startswith(divided)}


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
