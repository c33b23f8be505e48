"""Prints how a run on this machine ended."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer

from saman.cli.output import shown_path
from saman.configs.errors import ExitCode
from saman.configs.terminal_text import clean_text

if TYPE_CHECKING:
    from rich.console import Console

    from saman.jobs.publishing import FinishedRun
    from saman.launcher.supervision.outcome import Outcome
    from saman.runs.records.summary import Summary

LAST_LINES = 12


def end_with(console: Console, finished: FinishedRun, as_json: bool = False) -> None:
    """Print how the run ended; end the command with the run's exit status, unless that is 0."""
    for problem in finished.waiting:
        console.print(f"  tracking waits, nothing is lost: {problem}", style="yellow", markup=False)
    if as_json:
        typer.echo(json.dumps(finished.to_json(), indent=2))
    else:
        print_finished(console, finished)
    if finished.exit_code:
        raise typer.Exit(finished.exit_code)


def print_finished(console: Console, finished: FinishedRun) -> None:
    """Print how a run ended, what was published, and its folder."""
    from rich.text import Text

    from saman.configs.units import format_duration
    from saman.jobs.publishing import PublicationState, describe_publication

    outcome, publication = finished.outcome, finished.publication
    good = outcome.exit_code == ExitCode.DONE
    paused = outcome.exit_code == ExitCode.REQUEUE
    mark, style = ("✓ ", "bold green") if good else ("– ", "bold yellow") if paused else ("✗ ", "bold red")
    console.print(Text(mark, style=style) + Text(clean_text(outcome.message)), soft_wrap=True)
    if not good and not paused:
        _print_failure(console, outcome)
    summary = outcome.run.summary()
    figures = [format_duration(outcome.seconds), *(_rates(summary) if summary else [])]
    figures += [f"{name} {value:.4g}" for name, value in (summary.metrics if summary else {}).items()]
    if good:
        console.print(Text("  " + "  ".join(figures)), soft_wrap=True)
    if (sentence := describe_publication(publication)) is not None:
        colours = {PublicationState.REFUSED: "yellow", PublicationState.FAILED: "red"}
        console.print(Text(f"  {sentence}", style=colours.get(publication.state, "")), soft_wrap=True)
    console.print(Text(f"  {shown_path(outcome.run.path)}", style="dim"), soft_wrap=True)


def _rates(summary: Summary) -> list[str]:
    """Sustained throughput, and that over all wall time, which start, validation and checkpoints lower."""
    from saman.cli.output import short_number

    sustained, whole = summary.samples_per_second, summary.end_to_end_samples_per_second
    if not sustained:
        return []
    return [f"{short_number(sustained)} samples/s" + (f" ({short_number(whole)} end to end)" if whole else "")]


def _print_failure(console: Console, outcome: Outcome) -> None:
    """Print the last lines of each first failing rank, or of the start method if no rank failed by itself."""
    from rich.text import Text

    from saman.cli.log_lines import CHATTER

    failed = outcome.failure.first if outcome.failure else ()
    for rank in failed:
        if rank.message:
            console.print(Text(clean_text(f"  rank {rank.rank}: {rank.message}"), style="red"), soft_wrap=True)
        lines = [line for line in rank.last_lines if not CHATTER.match(line)][-LAST_LINES:]
        for line in lines if rank.rank else ():  # the chief's lines were shown as they came
            console.print(Text(clean_text(f"  [{rank.rank}] {line}"), style="dim"), soft_wrap=True)
    for line in () if failed else outcome.starter_lines:
        console.print(Text("  " + clean_text(line), style="dim"), soft_wrap=True)
