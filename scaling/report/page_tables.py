"""The tables of a report on the page: points, differences, laws, predictions, runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from saman.configs.units import format_duration
from saman.scaling.analysis.analysis import Analysis
from saman.scaling.analysis.contrasts import Contrast
from saman.scaling.models.series import NOMINAL
from saman.scaling.report.cells import CellColumn, format_estimate, format_interval, format_number, make_table
from saman.scaling.report.rows import ContrastRow, LawRow, PointRow, PredictionRow, RunRow
from saman.scaling.report.tables import (
    contrast_rows,
    law_rows,
    point_rows,
    prediction_rows,
    run_rows,
    series_of_runs,
)
from saman.scaling.report.writer import CellKind, Table, TableKind
from saman.scaling.stack.track_record import TrackRecord
from saman.scaling.stack.weights import TrainedStack

# The definition of throughput, as ``runs.telemetry.throughput`` computes it.
THROUGHPUT_NOTE = (
    "samples/s is sustained throughput: Σ samples of all ranks ÷ Σ seconds of the steady part, where a window of steps "
    "lasts as long as on its slowest rank. Steps that traced a graph, warm-up, validation and checkpoints are not in "
    "it. “windows” is the median with the 5 % and 95 % points of single windows. “end to end” is all samples ÷ all "
    "wall time of the run's attempts, validation and checkpoints included; node-hours and time to accuracy follow from "
    "it."
)
_ZERO_SECONDS_PER_STEP = 1e-9  # of a step; a hop of a network takes at least a microsecond of at most an hour
_WIDE = 10
_MANY_CURVES = 8  # beyond, the page shows the heaviest laws only


def point_table(analysis: Analysis) -> Table:
    """The points of all curves."""
    columns: list[CellColumn[PointRow]] = [
        CellColumn("series", lambda row: row.series, CellKind.TEXT, main=True),
        CellColumn("ranks", lambda row: str(row.ranks), main=True),
        CellColumn("nodes", lambda row: str(row.nodes)),
        CellColumn("repeats", lambda row: str(row.repeats), main=True),
        CellColumn("samples/s", lambda row: format_estimate(row.samples_per_second), main=True),
        CellColumn("windows", _window_rates),
        CellColumn("end to end", lambda row: format_number(row.end_to_end_samples_per_second)),
        CellColumn("seconds/step", lambda row: format_estimate(row.step_seconds)),
        CellColumn("speed-up", lambda row: format_estimate(row.speedup), main=True),
        CellColumn("efficiency", lambda row: format_estimate(row.efficiency, percent=True), main=True),
        CellColumn("Karp–Flatt", lambda row: format_number(row.karp_flatt, percent=True)),
        CellColumn("CV per node", lambda row: row.variation_per_node, CellKind.TEXT),
        CellColumn("stragglers", lambda row: row.stragglers or "–", CellKind.TEXT),
        CellColumn("outliers", lambda row: row.outliers or "–", CellKind.TEXT),
        CellColumn("interval", _interval_note, CellKind.LONG_TEXT),
    ]
    note = (
        f"Medians over runs with 95 % intervals. Outliers are kept. {_capital(analysis.drift.words)}. {THROUGHPUT_NOTE}"
    )
    return make_table(TableKind.POINTS, note, columns, point_rows(analysis.curves))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _window_rates(row: PointRow) -> str:
    return format_interval(row.window_median, row.window_p5, row.window_p95)


def _interval_note(row: PointRow) -> str:
    interval = row.samples_per_second.interval
    return f"median covers {interval.attained:.1%}" if interval else str(row.samples_per_second.withheld)


def contrast_table(
    contrasts: Sequence[Contrast], kind: TableKind = TableKind.CONTRASTS, within_repeats: bool = False
) -> Table:
    """The comparisons of series or of two studies."""
    columns: list[CellColumn[ContrastRow]] = [
        CellColumn("ranks", lambda row: str(row.ranks), main=True),
        CellColumn("series", lambda row: row.series, CellKind.TEXT, main=True),
        CellColumn("against", lambda row: row.against, CellKind.TEXT, main=True),
        CellColumn("ratio of throughput", lambda row: format_estimate(row.ratio), main=True),
        CellColumn("p", lambda row: f"{row.p:.3g}"),
        CellColumn("p corrected", lambda row: f"{row.p_corrected:.3g}"),
        CellColumn("verdict", lambda row: row.verdict, CellKind.TEXT, main=True),
    ]
    tests = "Signed-rank tests within repeats, because runs drift" if within_repeats else "Exact rank tests"
    note = f"{tests}, corrected for {len(contrasts)} comparisons (Holm)."
    return make_table(kind, note, columns, contrast_rows(contrasts))


@dataclass(frozen=True)
class _LawSummary:
    """A law of a curve with all its parameters."""

    row: LawRow
    parameters: str


def law_table(analysis: Analysis) -> Table:
    """The laws fitted to each curve; of many curves the heaviest only."""
    columns: list[CellColumn[_LawSummary]] = [
        CellColumn("series", lambda law: law.row.series, CellKind.TEXT),
        CellColumn("law", lambda law: law.row.law + (" (heaviest)" if law.row.chosen else ""), CellKind.TEXT),
        CellColumn("weight", lambda law: format_number(law.row.weight, percent=True)),
        CellColumn("largest residual", lambda law: format_number(law.row.largest_residual, percent=True)),
        CellColumn("parameters with 95 % intervals", lambda law: law.parameters, CellKind.LONG_TEXT),
        CellColumn("note", lambda law: law.row.note, CellKind.TEXT),
    ]
    by_law: dict[tuple[str, str], list[LawRow]] = {}
    for row in law_rows(analysis.drawable):
        if row.chosen or len(analysis.drawable) <= _MANY_CURVES:
            by_law.setdefault((row.series, row.law), []).append(row)
    laws = [_LawSummary(rows[0], ", ".join(map(_parameter, rows))) for rows in by_law.values()]
    note = (
        "Weight: share of the law in the forecasts, from its log score on published curves of other sources and on the "
        "points of this curve, each predicted from those before it. Laws without weight are shown for comparison."
    )
    return make_table(TableKind.LAWS, note, columns, laws)


def _parameter(row: LawRow) -> str:
    interval = "" if row.low is None else f" [{row.low:.3g}, {row.high:.3g}]"
    return f"{row.parameter} {row.value:.3g}{interval}{suspicion_in_words(row)}"


def suspicion_in_words(row: LawRow) -> str:
    """A mark on a parameter that no machine has: it stands at its bound, or its interval reaches from 0 to anywhere."""
    is_cost = row.unit.startswith("steps") and row.parameter != "hidden"  # nothing hidden is nothing strange
    if is_cost and row.value < _ZERO_SECONDS_PER_STEP:
        return " (suspicious: indistinguishable from 0; these points do not determine it)"
    if row.low is not None and row.high is not None and row.low <= 0 and row.high > _WIDE * row.value:
        return " (suspicious: its interval reaches 0 and exceeds the value tenfold)"
    return ""


def prediction_note(known: TrainedStack, track: TrackRecord | None) -> str:
    """What the intervals of predictions rest on."""
    kept = f" {track.sentence}" if track else ""
    return (
        f"Medians with {NOMINAL:.0%} intervals of a weighted stack of laws, trained on {known.predictions} forecasts "
        f"of {known.sources} published sources. “Loss at a boundary” is the probability of a cliff on the way.{kept}"
    )


def prediction_table(analysis: Analysis) -> Table:
    """The predictions of the stack of laws."""
    columns: list[CellColumn[PredictionRow]] = [
        CellColumn("series", lambda row: row.series, CellKind.TEXT),
        CellColumn("laws", lambda row: row.laws or "–", CellKind.TEXT),
        CellColumn("ranks", lambda row: str(row.ranks)),
        CellColumn("nodes", lambda row: str(row.nodes)),
        CellColumn(
            "samples/s",
            lambda row: format_interval(
                row.samples_per_second, row.samples_per_second_low, row.samples_per_second_high
            ),
        ),
        CellColumn("efficiency", lambda row: format_number(row.efficiency, percent=True)),
        CellColumn("node-hours per epoch", lambda row: format_number(row.node_hours_per_epoch)),
        CellColumn("loss at a boundary", lambda row: format_number(row.cliff_probability, percent=True)),
        CellColumn("caution", lambda row: row.caution or "", CellKind.LONG_TEXT),
    ]
    known = analysis.stack
    note = prediction_note(known, analysis.track) if known else ""
    return make_table(TableKind.PREDICTIONS, note, columns, prediction_rows(analysis.drawable))


def run_table(analysis: Analysis) -> Table:
    """All runs, excluded runs first."""
    columns: list[CellColumn[RunRow]] = [
        CellColumn("run", lambda row: row.run, CellKind.TEXT),
        CellColumn("series", lambda row: row.series or row.strategy, CellKind.TEXT),
        CellColumn("ranks", lambda row: str(row.ranks)),
        CellColumn("state", lambda row: row.state, CellKind.TEXT),
        CellColumn("samples/s", lambda row: format_number(row.samples_per_second)),
        CellColumn("goodput", lambda row: format_number(row.goodput, percent=True)),
        CellColumn("lost to", _lost, CellKind.TEXT),
        CellColumn("windows", lambda row: str(row.windows)),
        CellColumn("left out at the start", _dropped, CellKind.TEXT),
        CellColumn("problem", lambda row: row.problem or "", CellKind.LONG_TEXT),
    ]
    rows = sorted(run_rows(analysis.runs, series_of_runs(analysis.curves)), key=lambda row: (row.counts, row.run))
    note = "Excluded runs come first. tables/runs has the reason for every window that was left out."
    return make_table(TableKind.RUNS, note, columns, rows)


def _lost(row: RunRow) -> str:
    """Wall time that moved nothing forward, by its reason; nothing below a second."""
    parts = {
        "failures": row.lost_to_failures_seconds,
        "restarts": row.lost_to_restarts_seconds,
        "checkpoints": row.lost_to_checkpoints_seconds,
        "waiting": row.lost_to_waiting_seconds,
    }
    known = {name: seconds for name, seconds in parts.items() if seconds is not None and seconds >= 1}
    return ", ".join(f"{name} {format_duration(seconds)}" for name, seconds in known.items())


def _dropped(row: RunRow) -> str:
    return f"{row.windows_dropped_at_start} of {row.windows + row.windows_dropped_at_start} windows"
