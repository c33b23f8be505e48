"""Reviews runs and curves: yields a finding for each defect a reader must know."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from saman.scaling.analysis.curves import Curve
from saman.scaling.analysis.findings import Finding
from saman.scaling.analysis.results import Run


def about_runs(runs: Sequence[Run]) -> Iterable[Finding]:
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


def about_outliers(curves: Sequence[Curve]) -> Iterable[Finding]:
    """Runs that stand apart, all in one note."""
    apart = [(curve, point, run) for curve in curves for point in curve.points for run in point.outliers]
    if apart:
        told = ", ".join(f"{run} ({curve.label}, {point.ranks} ranks)" for curve, point, run in apart[:5])
        more = f" and {len(apart) - 5} more, in the table of points" if len(apart) > 5 else ""
        yield Finding(
            "outliers", f"{len(apart)} runs stand apart from their repeats and are kept: {told}{more}", note=True
        )


def about_curve(curve: Curve, base_ranks: int) -> Iterable[Finding]:
    """What its runs do not allow to be said of a curve."""
    if not curve.group.drawn:
        return
    if curve.base is None:
        ranks = "1 rank" if base_ranks == 1 else f"{base_ranks} ranks"
        yield Finding("missing_base", f"{curve.label}: no run on {ranks} counts, so no speed-up or efficiency is shown")
    single = [str(point.ranks) for point in curve.points if len(point.runs) == 1]
    if single:
        at = f"{', '.join(single)} ranks"
        yield Finding("single_repeat", f"{curve.label}: a single repeat at {at}; points without intervals are shown")
    if curve.group.strategy == "pipeline" and not all(point.stages for point in curve.points):
        text = f"{curve.label}: its telemetry does not tell stages apart; the table of stages lacks them"
        yield Finding("stages_not_told", text, note=True)
