"""Reports of studies and runs in Python."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from saman.api import html
from saman.api.runs import Run

if TYPE_CHECKING:
    import polars as pl

    from saman.scaling.analysis.findings import Finding
    from saman.scaling.report.writer import Page


class Report:
    """The content of a report: sentences, findings and tables. A notebook shows a summary; ``write`` makes the page."""

    def __init__(self, page: Page) -> None:
        self._page = page

    def __repr__(self) -> str:
        return f"<saman.Report {self.title}: {' '.join(self.opening)}>"

    @property
    def title(self) -> str:
        """The study's name, or the names of the runs."""
        return self._page.title

    @property
    def opening(self) -> tuple[str, ...]:
        """The main results: the comparison of series, the speed-up, where scaling stops paying, and the limit."""
        return self._page.opening

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Missing, excluded or doubtful runs; a finding that is no ``note`` needs attention."""
        return self._page.findings

    @property
    def tables(self) -> Mapping[str, pl.DataFrame]:
        """Every table with all its columns, units in their names."""
        return self._page.data

    @property
    def rules(self) -> pl.DataFrame | None:
        """Hoefler and Belli's twelve rules, each with its evidence or what is missing; None for a comparison."""
        return self._page.data.get("rules")

    def write(self, folder: str | PathLike[str], *, papers: bool = True) -> Path:
        """Write the page, its figures and tables.

        Args:
            folder: Where to write; made if it does not exist.
            papers: Write each figure also as SVG, PNG and PDF.

        Returns:
            The path of ``report.html``.

        Raises:
            EnvironmentLack: The folder cannot be written.

        Example:
            >>> import saman
            >>> saman.report("last").write("report", papers=False).name
            'report.html'
        """
        from saman.scaling.report.writer import write_report

        return write_report(self._page, Path(folder), papers)

    def _repr_html_(self) -> str:
        findings = [f"{finding.kind.words}: {finding.text}" for finding in self.findings]
        from saman.scaling.report.writer import TableKind

        shown = (TableKind.BOUNDS, TableKind.POINTS, TableKind.CONTRASTS, TableKind.STUDY_CONTRASTS)
        tables = [table for table in self._page.tables if table.kind in shown]
        return "".join(
            [
                html.html_title(self.title),
                *map(html.html_paragraph, self.opening),
                html.html_list(findings),
                *(
                    html.html_paragraph(table.title)
                    + html.html_table([column.name for column in table.columns], table.rows)
                    for table in tables
                ),
            ]
        )


def report(*what: Run | str | PathLike[str], runs_dir: str | PathLike[str] = "runs") -> Report:
    """Report how a study's runs, or any runs, scale.

    Args:
        *what: A study (its name, file or folder), an experiment's name, or runs.
        runs_dir: The folder of the runs.

    Returns:
        The report; nothing is written before ``write``.

    Raises:
        UserError: There are no such runs.

    Example:
        >>> import saman
        >>> report = saman.report(saman.open_run("last"))
        >>> report.tables["points"].height
        1
    """
    from saman.scaling.analysis.sources import find_source
    from saman.scaling.report.pages import study_page
    from saman.scaling.track.keeping import read_and_settle

    words = [str(item.path) if isinstance(item, Run) else str(item) for item in what]
    source = find_source(words, Path(runs_dir))
    command = "saman report " + shlex.join(words)
    analysis = read_and_settle(source, Path(runs_dir))
    return Report(study_page(analysis, source.title, command, source.rerun))
