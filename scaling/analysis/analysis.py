"""The analysis of runs: curves with baselines, laws and predictions, contrasts between curves, findings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from saman.runs.forecast_log import ForecastLog, Predictor
from saman.scaling.analysis.baselines import find_baseline
from saman.scaling.analysis.contrasts import Contrast, contrast_curves
from saman.scaling.analysis.curves import Curve, mark_memory, point_beyond, refuse_shared_cores, scaling_points
from saman.scaling.analysis.findings import Finding
from saman.scaling.analysis.groups import RunGroup, group_runs
from saman.scaling.analysis.points import make_point
from saman.scaling.analysis.review import review_curve, review_drift, review_outliers, review_runs
from saman.scaling.analysis.run_values import MeasuredRun, Run, timed_rates
from saman.scaling.models.fitting import FEWEST_POINTS
from saman.scaling.stack.forecast import forecast_curve
from saman.scaling.stack.track_record import TrackRecord, track_record
from saman.scaling.stack.weights import TrainedStack, shipped_stack
from saman.scaling.statistics.drift import DriftTest, drift_test, withheld


@dataclass(frozen=True)
class Analysis:
    """Everything a report says.

    Attributes:
        runs: All runs that were found, excluded runs too.
        predict_at: Rank counts to predict; None for twice and four times the largest of each curve.
        drift: The test whether runs that started one after another are alike.
        stack: The weights behind the predictions; None without a curve of three points.
        track: The track record of forecasts on this machine, which widens or narrows intervals.
        pipeline_track: The same of forecasts of pipelines.
    """

    curves: tuple[Curve, ...]
    contrasts: tuple[Contrast, ...]
    runs: tuple[Run, ...]
    findings: tuple[Finding, ...]
    stack: TrainedStack | None = None
    predict_at: tuple[int, ...] | None = None
    drift: DriftTest = DriftTest(None, 0)
    track: TrackRecord | None = None
    pipeline_track: TrackRecord | None = None

    @property
    def measured_runs(self) -> tuple[MeasuredRun, ...]:
        """The runs that count."""
        return tuple(run for run in self.runs if isinstance(run, MeasuredRun))

    @property
    def drawable(self) -> tuple[Curve, ...]:
        """The curves that no finding hides."""
        return tuple(curve for curve in self.curves if curve.group.is_drawable)


def analyse(
    runs: Sequence[Run],
    *,
    base_ranks: int = 1,
    predict_at: Sequence[int] | None = None,
    findings: Sequence[Finding] = (),
    forecasts: ForecastLog | None = None,
) -> Analysis:
    """Analyse runs.

    Args:
        runs: All runs, excluded runs too.
        base_ranks: Rank count of the baseline.
        predict_at: Rank counts to predict; by default twice and four times the largest measured.
        findings: What the caller found before, such as missing runs.
        forecasts: The log of recorded forecasts, whose outcomes on this machine set the width of intervals.
    """
    groups = group_runs([run for run in runs if isinstance(run, MeasuredRun)])
    drift = drift_test([timed_rates(alike) for group in groups for alike in group.points.values()])
    enough = any(len(group.points) >= FEWEST_POINTS for group in groups)
    stack = shipped_stack() if enough else None
    track = pipeline_track = None
    if forecasts and groups:
        machine = groups[0].runs[0].facts.hardware
        track = track_record(forecasts, machine)
        pipeline_track = track_record(forecasts, machine, predictor=Predictor.PIPELINES)
    widening = track.widening if track else 1.0
    curves = tuple(_curve(group, groups, base_ranks, predict_at, drift, widening) for group in groups)
    found = [*findings, *review_runs(runs), *(finding for group in groups for finding in group.findings)]
    found += [finding for curve in curves for finding in review_curve(curve, base_ranks)]
    found += [*review_outliers(curves), *review_drift(drift)]
    return Analysis(
        curves=curves,
        contrasts=tuple(contrast_curves([curve for curve in curves if curve.group.is_drawable], drift.found)),
        drift=drift,
        runs=tuple(runs),
        findings=tuple(found),
        stack=stack,
        predict_at=tuple(predict_at) if predict_at else None,
        track=track,
        pipeline_track=pipeline_track,
    )


def _curve(
    group: RunGroup,
    groups: Sequence[RunGroup],
    base_ranks: int,
    predict_at: Sequence[int] | None,
    drift: DriftTest,
    widening: float,
) -> Curve:
    baseline = find_baseline(group, groups, base_ranks)
    if baseline is not None and drift.found:
        baseline = replace(baseline, throughput=withheld(baseline.throughput, drift))
    places = sorted(group.points.items())
    points = tuple(make_point(ranks, nodes, runs, baseline, drift) for (ranks, nodes), runs in places)
    curve = Curve(group, points, baseline, None, ())
    if not group.is_drawable or len(points) < FEWEST_POINTS:
        return curve
    if any(point.stages for point in points):
        return curve  # pipelines have a predictor of their own; a second predictor would contradict it
    measured = scaling_points(points)
    wanted = [point_beyond(measured, n) for n in predict_at or (2 * measured[-1].ranks, 4 * measured[-1].ranks)]
    wanted, refused = refuse_shared_cores(group, wanted)
    wanted = [mark_memory(group, measured, place) for place in wanted]
    found = forecast_curve(measured, wanted, group.scaling, widening=widening)
    if found is None:
        return curve
    return Curve(group, points, baseline, found.choice, found.forecasts, refused).within_nodes()
