"""Writes a report: a self-contained page, every figure as SVG, PNG and PDF, every number as CSV and Parquet."""

from __future__ import annotations

import json
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import quote

import polars as pl

from saman.runs.files.whole import write_whole
from saman.runs.files.write_errors import explain_write_errors
from saman.scaling.analysis.findings import Finding
from saman.scaling.analysis.run_values import Run
from saman.scaling.report.figures.drawing import GRID, INK, draw, javascript, specs_of, theme
from saman.scaling.report.figures.vega import Figure
from saman.scaling.report.timelines.page import write_timeline_page

_log = logging.getLogger(__name__)


METHOD = (
    "tables/ has all numbers as CSV and Parquet. Intervals of medians: order statistics, with the attained coverage. "
    "Intervals of ratios: bias-corrected bootstrap over runs. p-values: exact rank tests, corrected for the number of "
    "comparisons (Holm)."
)


class CellKind(str, Enum):
    """What the cells of a column hold; the value is their CSS class."""

    NUMBER = "number"
    TEXT = "text"
    LONG_TEXT = "text long"


class TableKind(Enum):
    """The tables of a report, with their titles."""

    BOUNDS = "What bounds these runs?"
    SETUP = "Set-up"
    POINTS = "Points"
    GRID = "Stages × replicas"
    STAGES = "Pipeline stages"
    CONTRASTS = "Differences between series"
    STUDY_CONTRASTS = "Differences"
    LAWS = "Laws"
    PREDICTIONS = "Predictions"
    PIPELINE_PREDICTIONS = "Predicted pipelines"
    TIME_TO_ACCURACY = "Time to accuracy"
    BATCHES = "Epochs of larger batches"
    RUNS = "Runs"
    SEEDS = "Seeds"
    TRIALS = "Trials"


@dataclass(frozen=True)
class Column:
    """A column of a table on the page; a terminal shows the ``main`` columns only."""

    name: str
    kind: CellKind = CellKind.NUMBER
    main: bool = False


@dataclass(frozen=True)
class Table:
    """A table on the page, with cells as text."""

    kind: TableKind
    note: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def title(self) -> str:
        """The title for people."""
        return self.kind.value


@dataclass(frozen=True)
class Page:
    """The content of a report.

    Attributes:
        opening: The first sentences.
        provenance: Values of hardware, software and placement, each with its number of runs.
        command: Command line that makes the report again.
        rerun: Command lines that run the measurements again.
        method: How intervals and tests were computed.
        data: Tables by file name.
        timelines: Horovod's traces of the runs.
        kept_score: What recorded forecasts of this machine came to, in sentences.
    """

    title: str
    subtitle: str
    opening: tuple[str, ...]
    findings: tuple[Finding, ...]
    figures: tuple[Figure, ...]
    tables: tuple[Table, ...]
    provenance: Mapping[str, Sequence[tuple[str, int]]]
    command: str
    data: Mapping[str, pl.DataFrame]
    rerun: tuple[str, ...] = ()
    method: str = METHOD
    timelines: tuple[Path, ...] = ()
    kept_score: tuple[str, ...] = ()


def write_report(page: Page, folder: Path, papers: bool = True) -> Path:
    """Write a report.

    Args:
        page: The content.
        folder: Where the page, ``tables/`` and ``figures/`` go; created if missing.
        papers: Whether to write figures as files too.

    Returns:
        The path of the page.

    Raises:
        EnvironmentLack: The folder cannot be written, or the library of the figures is missing.
    """
    with explain_write_errors(folder, "the report"):
        for name in ("tables", "figures") if papers else ("tables",):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for name, frame in page.data.items():
            _write_table(frame, folder / "tables" / name)
        drawings = draw(page.figures, folder / "figures" if papers else None)
        shown = {file: write_timeline_page(file, folder / "timelines", _attempt_of(file)) for file in page.timelines}
        write_whole(folder / "report.html", _html(page, folder, drawings, shown))
    _log.debug("%s: %d tables, %d figures", folder, len(page.data), len(page.figures))
    return folder / "report.html"


def html(page: Page, folder: Path = Path()) -> str:
    """The page as a single file without external resources; its links are relative to ``folder``."""
    return _html(page, folder, draw(page.figures))


def _html(
    page: Page, folder: Path, drawings: Mapping[str, Mapping[str, str]], shown: Mapping[Path, Path] | None = None
) -> str:
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    template = Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    return environment.from_string(template).render(
        **{
            **vars(page),
            "timelines": [_link(file, (shown or {}).get(file, file), folder) for file in page.timelines],
            "specs": Markup(_script(specs_of(page.figures))),
            "theme": Markup(_script(theme(INK, GRID))),
        },
        stills={name: {width: Markup(svg) for width, svg in both.items()} for name, both in drawings.items()},
        javascript=Markup(javascript() if page.figures else ""),
    )


def _link(file: Path, target: Path, folder: Path) -> tuple[str, str, bool]:
    """The address that shows a timeline, the run and attempt it belongs to, and whether it is the bare file."""
    address = os.path.relpath(target.absolute(), folder.absolute())
    return quote(address), _attempt_of(file), target == file


def _attempt_of(file: Path) -> str:
    return f"{file.parents[2].name}, attempt {file.parent.name}"


def _script(value: Any) -> str:
    """JSON that cannot end the surrounding script element."""
    return json.dumps(value, ensure_ascii=True, allow_nan=False).replace("<", "\\u003c")


def without_formulas(frame: pl.DataFrame) -> pl.DataFrame:
    """A table whose text no spreadsheet takes for a formula: an apostrophe goes before ``=``, ``+``, ``-`` and ``@``.

    Names of nodes, experiments and settings come from run folders, which other users may have written.
    """
    begins = r"^\s*[=+\-@\t\r\n]"
    text = pl.col(pl.String, pl.Categorical).cast(pl.String)
    quoted = frame.with_columns(pl.when(text.str.contains(begins)).then(pl.lit("'") + text).otherwise(text).name.keep())
    names = {name: f"'{name}" for name in frame.columns if re.match(begins, name)}
    return quoted.rename(names)


def _write_table(frame: pl.DataFrame, path: Path) -> None:
    import io

    csv, parquet = io.BytesIO(), io.BytesIO()
    without_formulas(frame).write_csv(csv)
    frame.write_parquet(parquet)
    write_whole(path.with_suffix(".csv"), csv.getvalue())
    write_whole(path.with_suffix(".parquet"), parquet.getvalue())


def provenance_counts(runs: Sequence[Run]) -> dict[str, list[tuple[str, int]]]:
    """The report's provenance: hardware, software and placement, each value with its number of runs."""
    named: Iterable[tuple[str, list[str]]] = (
        ("Hardware", [run.facts.hardware for run in runs]),
        ("Software", [run.facts.software for run in runs]),
        ("Placement", [run.facts.placement for run in runs]),
    )
    return {name: Counter(values).most_common(20) for name, values in named if values}
