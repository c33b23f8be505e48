"""The tables of conclusions: what bounds a run, the time to an accuracy, and the epochs of larger batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from saman.scaling.conclusions.accuracy import Accuracy, TimeToTarget
from saman.scaling.conclusions.bounds import LEAST_LOSS, BoundVerdict
from saman.scaling.report.cells import CellColumn, format_estimate, format_number, make_table
from saman.scaling.report.writer import CellKind, Table, TableKind
from saman.scaling.statistics.intervals import Estimate


@dataclass(frozen=True)
class BoundRow:
    """What bounds a series at its largest rank count."""

    series: str
    ranks: int
    bound: str
    share: float
    evidence: str
    change: str
    expected_gain: float | None
    tried_in: str | None
    gain_found: Estimate | None
    verdict: str | None


@dataclass(frozen=True)
class BatchRow:
    """The epochs of a larger batch against the smallest."""

    series: str
    batch: int
    smallest: int
    ratio_of_epochs: Estimate
    p: float
    p_corrected: float
    verdict: str


def bound_rows(verdicts: Sequence[BoundVerdict]) -> list[BoundRow]:
    """A row per series."""
    return [
        BoundRow(
            series=verdict.series,
            ranks=verdict.ranks,
            bound=verdict.bound.value,
            share=verdict.share,
            evidence=verdict.evidence,
            change=verdict.change,
            expected_gain=verdict.expected_gain,
            tried_in=verdict.found.series if verdict.found else None,
            gain_found=verdict.found.ratio if verdict.found else None,
            verdict=verdict.found.verdict if verdict.found else None,
        )
        for verdict in verdicts
    ]


def bound_table(verdicts: Sequence[BoundVerdict]) -> Table:
    """What bounds each series, what to change, and what that gives."""
    columns: list[CellColumn[BoundRow]] = [
        CellColumn("series", lambda row: row.series, CellKind.TEXT, main=True),
        CellColumn("ranks", lambda row: str(row.ranks), main=True),
        CellColumn("bound by", lambda row: row.bound, CellKind.TEXT, main=True),
        CellColumn("evidence", lambda row: row.evidence, CellKind.LONG_TEXT),
        CellColumn("what to change", lambda row: row.change, CellKind.LONG_TEXT, main=True),
        CellColumn("gain to expect", lambda row: _at_most(row.expected_gain), main=True),
        CellColumn("gain found", _found, CellKind.LONG_TEXT, main=True),
    ]
    note = (
        "At the largest rank count of each series. Losses are shares of wall time while training; the largest bounds "
        f"the run, or its own compute where none takes {LEAST_LOSS:.0%}. The gain to expect is at most that of taking "
        "away what the change removes of the loss. The gain found is that of a series of this study that differs in "
        "nothing else."
    )
    return make_table(TableKind.BOUNDS, note, columns, bound_rows(verdicts))


def _at_most(gain: float | None) -> str:
    return "–" if gain is None else f"at most {gain:.2f}×"


def _found(row: BoundRow) -> str:
    return f"{format_estimate(row.gain_found)}× in {row.tried_in}: {row.verdict}" if row.gain_found else "not tried"


def target_table(accuracy: Accuracy | None) -> Table:
    """Time, samples and epochs to the target."""
    wanted = accuracy.target.words if accuracy else "the target"
    columns: list[CellColumn[TimeToTarget]] = [
        CellColumn("series", lambda row: row.series, CellKind.TEXT, main=True),
        CellColumn("ranks", lambda row: str(row.ranks), main=True),
        CellColumn("global batch", lambda row: str(row.global_batch), main=True),
        CellColumn(f"runs with {wanted}", lambda row: f"{row.reached} of {row.repeats}", main=True),
        CellColumn("seconds", lambda row: format_estimate(row.seconds), main=True),
        CellColumn("samples", lambda row: format_estimate(row.samples)),
        CellColumn("epochs", lambda row: format_estimate(row.epochs), main=True),
        CellColumn("note", lambda row: row.note, CellKind.LONG_TEXT),
    ]
    if accuracy is None:
        return make_table(TableKind.TIME_TO_ACCURACY, "", columns, ())
    note = (
        f"Until the first evaluation with {accuracy.target.words}; medians over runs with 95% intervals. Seconds are "
        "wall time: start, tracing, validation and checkpoints included."
    )
    return make_table(TableKind.TIME_TO_ACCURACY, note, columns, accuracy.points)


def batch_rows(accuracy: Accuracy | None) -> list[BatchRow]:
    """A row per larger batch."""
    return [
        BatchRow(test.series, test.batch, test.smallest, test.ratio, test.p, test.corrected, test.verdict.value)
        for test in (accuracy.batches if accuracy else ())
    ]


def batch_table(accuracy: Accuracy | None) -> Table:
    """Whether larger batches need more epochs."""
    columns: list[CellColumn[BatchRow]] = [
        CellColumn("series", lambda row: row.series, CellKind.TEXT),
        CellColumn("global batch", lambda row: str(row.batch)),
        CellColumn("against", lambda row: str(row.smallest)),
        CellColumn("ratio of epochs", lambda row: format_estimate(row.ratio_of_epochs)),
        CellColumn("p", lambda row: format_number(row.p)),
        CellColumn("p corrected", lambda row: format_number(row.p_corrected)),
        CellColumn("verdict", lambda row: row.verdict, CellKind.TEXT),
    ]
    note = (
        "Epochs to the same target. One-sided exact rank tests of “the larger batch needs more epochs”, corrected for "
        "their number (Holm). The upper limit of a ratio holds with 95% by itself."
    )
    return make_table(TableKind.BATCHES, note, columns, batch_rows(accuracy))
