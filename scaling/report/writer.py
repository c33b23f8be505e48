"""Writes a report: a self-contained page, every figure as SVG, PNG and PDF, every number as CSV and Parquet."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import quote

import polars as pl

from saman.configs.errors import EnvironmentLack
from saman.runs.caches import cache_folder, require_trusted
from saman.runs.files.whole import write_whole
from saman.runs.files.write_errors import explain_write_errors
from saman.scaling.analysis.findings import Finding
from saman.scaling.analysis.run_values import Run
from saman.scaling.report.figures.narrow import narrow
from saman.scaling.report.figures.vega import Figure, Spec

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
        if papers:
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(lambda figure: _write_figure(figure, folder / "figures" / figure.name), page.figures))
        write_whole(folder / "report.html", html(page, folder))
    _log.debug("%s: %d tables, %d figures", folder, len(page.data), len(page.figures))
    return folder / "report.html"


def html(page: Page, folder: Path = Path()) -> str:
    """The page as a single file without external resources; its links are relative to ``folder``."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    template = Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    specs = {figure.name: {"wide": figure.spec, "narrow": narrow(figure.spec)} for figure in page.figures}
    with ThreadPoolExecutor(2) as pool:
        stills = dict(zip(specs, pool.map(_stills, specs.values()), strict=True))
    return environment.from_string(template).render(
        **{
            **vars(page),
            "timelines": [_link(file, folder) for file in page.timelines],
            "specs": Markup(_script(specs)),
            "theme": Markup(_script(_theme("currentColor", "#88888840"))),
        },
        stills={name: {width: Markup(svg) for width, svg in both.items()} for name, both in stills.items()},
        javascript=Markup(_javascript() if page.figures else ""),
    )


def _link(file: Path, folder: Path) -> tuple[str, str]:
    """The address of a file in a run folder, and the run and attempt that it belongs to."""
    address = os.path.relpath(file.absolute(), folder.absolute())
    return quote(address), f"{file.parents[2].name}, attempt {file.parent.name}"


def _stills(specs: Mapping[str, Spec]) -> dict[str, str]:
    """Drawings for readers without scripts and for paper, in the colour of the page's text."""
    theme = _theme("currentColor", "#88888840")
    return {width: _inline(_vl_convert().vegalite_to_svg(spec, config=theme)) for width, spec in specs.items()}


def _inline(svg: str) -> str:
    """An SVG that lies in a page with others: its own identifiers, and a size that follows the column."""
    prefix = f"s{hashlib.sha256(svg.encode()).hexdigest()[:8]}-"
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}\1)", svg)
    # the figure has a name of its own; the marks inside need none
    svg = re.sub(r' (?:role|aria-[a-z]+)="[^"]*"', "", svg)
    return svg.replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1)


def _script(value: Any) -> str:
    """JSON that cannot end the surrounding script element."""
    return json.dumps(value, ensure_ascii=True, allow_nan=False).replace("<", "\\u003c")


def _javascript() -> str:
    # "</script" would end the element; in a string of a script "<\/script" means the same
    return _kept_bundle().replace("</script", "<\\/script")


def _kept_bundle() -> str:
    """Vega's JavaScript, from the user's cache: bundling takes a second, and depends on the library's version alone."""
    convert = _vl_convert()
    folder = cache_folder() / "vega"
    file = folder / f"{convert.__version__}.js"
    with contextlib.suppress(OSError, UnicodeDecodeError, EnvironmentLack):
        require_trusted(folder, file)
        return file.read_text("utf-8")
    text = str(convert.javascript_bundle())
    with contextlib.suppress(OSError, EnvironmentLack):  # without a cache, the next report bundles again
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        require_trusted(folder)
        write_whole(file, text)
    return text


def _vl_convert() -> Any:
    try:
        import vl_convert
    except ImportError:
        raise EnvironmentLack(
            "figures need the package vl-convert-python", remedy="pip install vl-convert-python"
        ) from None
    return vl_convert


def _theme(ink: str, grid: str) -> Spec:
    """Colours and fonts of axes and legends; ``currentColor`` follows the page, in print too."""
    text = {"labelColor": ink, "titleColor": ink}
    return {
        "aria": False,  # the page names each figure as a whole; its tables have the numbers
        "background": None if ink == "currentColor" else "#ffffff",
        "font": "system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif" if ink == "currentColor" else "DejaVu Sans",
        "view": {"stroke": None},
        "axis": {**text, "gridColor": grid, "domainColor": ink, "tickColor": ink, "titleFontWeight": "normal"},
        "legend": text,
        "title": {"color": ink},
        "text": {"color": ink},
    }


def _write_figure(figure: Figure, path: Path) -> None:
    convert = _vl_convert()
    spec = {
        "title": {"text": figure.title, "anchor": "start"},
        **figure.spec,
    }
    svg = convert.vegalite_to_svg(spec, config=_theme("#1c1e21", "#e3e5e8"))
    write_whole(path.with_suffix(".svg"), svg)
    write_whole(path.with_suffix(".png"), convert.svg_to_png(svg, scale=2))
    write_whole(path.with_suffix(".pdf"), convert.svg_to_pdf(svg))


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
