"""``saman doctor``: installed software, missing software, and remedies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from saman.launcher.doctor.diagnosis import Diagnosis

MARKS = {"ok": ("✓", "green"), "missing": ("–", "dim"), "broken": ("✗", "red")}


def doctor_command(
    runs_dir: Annotated[Path, typer.Option("--runs-dir", help="Folder of the runs.")] = Path("runs"),
    models_dir: Annotated[Path, typer.Option("--models-dir", help="Folder of the models.")] = Path("models"),
    security: Annotated[
        bool, typer.Option("--security", help="Show what other users of this machine could read, change or misuse.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show installed and missing software, with remedies. Exit status 0 if `saman run` can train here, else 3.

    With --security: check ownership, permissions, keys, secrets and planted files instead; 3 if anything is dangerous.

    Examples:

        saman doctor

        saman doctor --security --runs-dir /project/runs --models-dir /project/models
    """
    if security:
        from saman.cli.sites.security import show_security

        show_security(runs_dir, models_dir, as_json)
        return
    import json
    from dataclasses import asdict

    from rich.console import Console

    from saman.configs.errors import ExitCode
    from saman.launcher.doctor.diagnosis import can_train
    from saman.launcher.doctor.examination import examine

    console = Console()
    with Console(stderr=True).status("importing TensorFlow"):
        findings = examine(runs_dir, models_dir)
    if as_json:
        plain = {"can_train": can_train(findings), "findings": [asdict(finding) for finding in findings]}
        typer.echo(json.dumps(plain, indent=2, ensure_ascii=False))
    elif console.is_terminal:
        console.print(diagnosis_table(findings))
        console.print(
            summary_line(findings), style="bold green" if can_train(findings) else "bold red", highlight=False
        )
    else:
        typer.echo("\n".join([*diagnosis_lines(findings), summary_line(findings)]))
    if not can_train(findings):
        raise typer.Exit(ExitCode.ENVIRONMENT)


def summary_line(findings: list[Diagnosis]) -> str:
    """The last line of ``saman doctor``."""
    blocking = [finding.name for finding in findings if finding.blocks]
    if not blocking:
        return "saman run can train here."
    return f"saman run cannot train here yet: see {', '.join(blocking)}."


def diagnosis_lines(findings: list[Diagnosis]) -> list[str]:
    """One plain line per finding, for a pipe or a log."""
    return [
        f"{finding.state:8}{finding.name:15}{finding.found}" + (f"  -> {finding.remedy}" if finding.remedy else "")
        for finding in findings
    ]


def diagnosis_table(findings: list[Diagnosis]) -> Table:
    """Return the findings as a table for a terminal, each with its remedy below."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    view = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in ("", "", "found"):
        view.add_column(title, overflow="fold")
    for finding in findings:
        sign, colour = MARKS[finding.state]
        if finding.blocks:
            sign, colour = "✗", "red"
        found = Text(finding.found, style="dim" if finding.state == "missing" and not finding.needed else "")
        if finding.remedy:
            found.append(f"\n→ {finding.remedy}", style="bold yellow" if finding.blocks else "dim italic")
        view.add_row(Text(sign, style=colour), Text(finding.name, style="bold"), found)
    return view
