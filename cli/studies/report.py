"""``saman report``: tables, figures and a page on a study or on runs, or on the comparison of two studies."""

from __future__ import annotations

import gc
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from saman.cli.options import RUNS, Json, RunsDir

if TYPE_CHECKING:
    from rich.console import Console

    from saman.scaling.report.writer import Page


_IN_JSON = ("points", "stages", "grid", "contrasts", "predictions", "pipeline_predictions", "ratios", "bounds",
            "time_to_accuracy", "batches")  # fmt: skip


def report_command(
    what: Annotated[list[str], typer.Argument(metavar="STUDY_OR_RUNS...", help="A study, a folder of runs, or runs.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder of the report.")] = None,
    compare: Annotated[bool, typer.Option("--compare", help="Compare two studies; the first is the baseline.")] = False,
    reviewer: Annotated[
        bool,
        typer.Option(
            "--reviewer",
            help="Check the report against Hoefler and Belli's twelve rules (SC '15); exit status 1 if it breaks any.",
        ),
    ] = False,
    target: Annotated[
        str | None,
        typer.Option("--target", help="Target for the time to accuracy: METRIC=VALUE, for example val_accuracy=0.97."),
    ] = None,
    papers: Annotated[
        bool, typer.Option("--papers/--no-papers", help="Also write each figure as SVG, PNG and PDF, for papers.")
    ] = True,
    exit_zero: Annotated[
        bool, typer.Option("--exit-zero", help="Exit status 0 also if runs are missing, failed or doubtful.")
    ] = False,
    runs_dir: RunsDir = RUNS,
    as_json: Json = False,
) -> None:
    """Report how runs scale. Exit status 1 if runs are missing, failed or doubtful.

    Examples:

        saman report demo -o report

        saman report --compare runs/before runs/after

        saman report demo --reviewer
    """
    gc.set_threshold(10_000)  # what is read of thousands of runs is kept until the page is written
    from rich.console import Console

    from saman.configs.errors import UserError
    from saman.scaling.report.figures.drawing import start_drawing
    from saman.scaling.report.writer import write_report

    console = Console(stderr=as_json)
    command = (
        shlex.join(["saman", *sys.argv[1:]]) if sys.argv[1:2] == ["report"] else "saman report " + shlex.join(what)
    )
    if compare and reviewer:
        raise UserError("--compare and --reviewer exclude each other", remedy="review each of the two studies")
    start_drawing()
    page = _comparison(what, runs_dir, command) if compare else _study(what, runs_dir, command, target)
    folder = output or Path("reports") / _file_name(page.title)
    file = write_report(page, folder, papers)
    if as_json:
        findings = [{"kind": finding.kind, "text": finding.text} for finding in page.findings]
        facts: dict[str, Any] = {"report": str(file), "opening": page.opening, "findings": findings}
        facts["kept_score"] = page.kept_score
        facts |= {"rules": page.data["rules"].to_dicts()} if reviewer else {}
        typer.echo(json.dumps({**facts, "tables": {name: frame.to_dicts() for name, frame in _told(page)}}, indent=2))
    else:
        print_report(console, page, file)
        if reviewer:
            _print_rules(console, page)
    broken = reviewer and not page.data["rules"]["met"].all()
    if not exit_zero and (broken or any(not finding.note for finding in page.findings)):
        raise typer.Exit(1)


def _print_rules(console: Console, page: Page) -> None:
    """Print the rules of Hoefler and Belli (SC '15) with the evidence in the report, or what is missing."""
    from rich.text import Text

    console.print("\nHoefler & Belli, Scientific Benchmarking of Parallel Computing Systems, SC '15", style="bold")
    for row in page.data["rules"].to_dicts():
        mark, style = ("met", "green") if row["met"] else ("missing", "red")
        console.print(Text.assemble(f"{row['number']:2} ", (f"{mark:7}", style), f" {row['rule']}"))
        console.print(Text(f"           {row['evidence'] if row['met'] else row['missing']}", style="dim"))


def _told(page: Page) -> list[tuple[str, Any]]:
    return [(name, page.data[name]) for name in _IN_JSON if name in page.data]


def _study(what: list[str], runs_dir: Path, command: str, target: str | None) -> Page:
    from saman.scaling.analysis.sources import find_source
    from saman.scaling.conclusions.accuracy import Target
    from saman.scaling.report.pages import study_page
    from saman.scaling.track.keeping import read_and_settle

    source = find_source(what, runs_dir)
    return study_page(
        read_and_settle(source, runs_dir), source.title, command, source.rerun, Target.parse(target) if target else None
    )


def _comparison(what: list[str], runs_dir: Path, command: str) -> Page:
    from saman.configs.errors import UserError
    from saman.scaling.analysis.sources import find_source, read_source
    from saman.scaling.report.comparison import comparison_page

    if len(what) != 2:
        raise UserError(f"{len(what)} names were given", where="--compare", remedy="two studies: before and after")
    before, after = (find_source([word], runs_dir) for word in what)
    names = (before.title, after.title) if before.title != after.title else (what[0], what[1])
    return comparison_page(read_source(before), read_source(after), names, command)


def _file_name(title: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in title)[:80] or "report"


def print_report(console: Console, page: Page, file: Path) -> None:
    """Print the summary, the findings, the main tables, and the path of the page."""
    from rich.table import Table
    from rich.text import Text

    from saman.scaling.report.writer import CellKind

    for sentence in page.opening:
        console.print(Text(sentence, style="bold"))
    for finding in page.findings[:20]:
        console.print(Text.assemble(("! ", "yellow"), f"{finding.kind.words}: {finding.text}"))
    if len(page.findings) > 20:
        console.print(f"  and {len(page.findings) - 20} more on the page")
    for sentence in page.kept_score:
        console.print(Text(sentence))
    for shown in page.tables:
        short = [index for index, column in enumerate(shown.columns) if column.main]
        if not short:
            continue
        table = Table(title=shown.title, title_justify="left", box=None, header_style="bold", pad_edge=False)
        for index in short:
            column = shown.columns[index]
            table.add_column(column.name, justify="right" if column.kind is CellKind.NUMBER else "left")
        for row in shown.rows[:40]:
            table.add_row(*(Text(row[index]) for index in short))
        console.print()
        console.print(table)
    console.print(f"\n{file}")
