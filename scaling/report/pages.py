"""The page of a study or of a set of runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from saman.runs.paths.run import RunPaths
from saman.scaling.analysis.analysis import Analysis
from saman.scaling.conclusions.accuracy import Target, time_to_accuracy
from saman.scaling.conclusions.bounds import find_bounds
from saman.scaling.pipelines.forecast import forecast
from saman.scaling.report.conclusion_tables import batch_rows, batch_table, bound_rows, bound_table, target_table
from saman.scaling.report.figures.figures import make_figures
from saman.scaling.report.opening import opening
from saman.scaling.report.page_tables import contrast_table, law_table, point_table, prediction_table, run_table
from saman.scaling.report.reviewer import review_rules
from saman.scaling.report.setup_table import setup_table
from saman.scaling.report.stage_tables import forecast_table, grid_table, stage_table
from saman.scaling.report.tables import tables
from saman.scaling.report.writer import Page, provenance_counts
from saman.scaling.statistics.columns import to_frame

_MOST_COMMANDS = 8


def study_page(
    analysis: Analysis, title: str, command: str, rerun: Sequence[str] = (), target: Target | None = None
) -> Page:
    """The report of a study or of a set of runs.

    Args:
        analysis: Of the runs.
        title: Heading of the page.
        command: Command line that makes the report again.
        rerun: Command lines that run the measurements again; by default those of the runs.
        target: Of the time to accuracy; by default what even the worst run reaches.
    """
    kept = analysis.pipeline_track
    pipelines = forecast(analysis.drawable, analysis.predict_at, widening=kept.widening if kept else 1.0)
    verdicts, accuracy = find_bounds(analysis.drawable), time_to_accuracy(analysis.drawable, target)
    page_tables = (
        bound_table(verdicts),
        setup_table(analysis.measured_runs),
        point_table(analysis),
        grid_table(analysis.curves),
        stage_table(analysis.curves),
        contrast_table(analysis.contrasts, within_repeats=analysis.drift.found),
        target_table(accuracy),
        batch_table(accuracy),
        law_table(analysis),
        prediction_table(analysis),
        forecast_table(pipelines, kept),
        run_table(analysis),
    )
    counted = f"{len(analysis.measured_runs)} of {len(analysis.runs)} runs count"
    return Page(
        title=title,
        subtitle=f"{counted}, {len(analysis.drawable)} series; written {now()}",
        opening=opening(analysis),
        findings=analysis.findings,
        figures=tuple(make_figures(analysis)),
        tables=tuple(table for table in page_tables if table.rows),
        provenance=provenance_counts(analysis.runs),
        command=command,
        data={
            **tables(analysis),
            "pipeline_predictions": to_frame(pipelines.predictions),
            "bounds": to_frame(bound_rows(verdicts)),
            "time_to_accuracy": to_frame(accuracy.points if accuracy else ()),
            "batches": to_frame(batch_rows(accuracy)),
            "rules": to_frame(review_rules(analysis)),
        },
        rerun=tuple(rerun) or _runs_again(analysis),
        timelines=_timelines(analysis),
        kept_score=_kept_score(analysis),
    )


def _kept_score(analysis: Analysis) -> tuple[str, ...]:
    """The track records in which an outcome or an open forecast stands."""
    records = (analysis.track, analysis.pipeline_track)
    return tuple(record.sentence for record in records if record and (record.intervals or record.open))


def _timelines(analysis: Analysis) -> tuple[Path, ...]:
    """The traces that runs with ``launch.horovod.timeline`` left."""
    attempts = (attempt for run in analysis.runs for attempt in RunPaths(run.facts.path).attempts())
    return tuple(attempt.timeline for attempt in attempts if attempt.timeline.is_file())


def _runs_again(analysis: Analysis) -> tuple[str, ...]:
    """A command per different experiment; of many only the first."""
    commands = list({run.facts.digest: run.facts.command for run in analysis.measured_runs}.values())
    more = [f"# and {len(commands) - _MOST_COMMANDS} more experiments"] if len(commands) > _MOST_COMMANDS else []
    return (*commands[:_MOST_COMMANDS], *more)


def now() -> str:
    """The time in UTC, for a page's subtitle."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
