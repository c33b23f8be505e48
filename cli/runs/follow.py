"""``saman status | logs | wait | cancel | resume``: runs after they were started, here or by Slurm."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saman.jobs.selection import found_runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from saman.jobs.status import RunStatus
    from saman.runs.folder import RunFolder

Runs = Annotated[list[str] | None, typer.Argument(help="Runs or studies: folders, ids, names, last. Default: all.")]
Some = Annotated[list[str], typer.Argument(help="Runs or studies: folders, ids, names, or last.")]
One = Annotated[str, typer.Argument(help="A run folder, id, experiment's name, or last.")]
RunsDir = Annotated[Path, typer.Option("--runs-dir", help="Folder of the runs.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
RUNS = Path("runs")
_STYLES = {"completed": "green", "failed": "red", "vanished": "red", "running": "cyan", "cancelled": "yellow"}


def status(
    runs: Runs = None,
    newest: Annotated[int, typer.Option("--newest", help="Without names: how many of the newest.")] = 20,
    runs_dir: RunsDir = RUNS,
    as_json: Json = False,
) -> None:
    """Show where runs stand: queued and why, running and how far, ended and how."""
    from saman.jobs.status import look

    found = look(found_runs(runs, runs_dir, newest))
    if as_json:
        typer.echo(json.dumps([one.to_json() for one in found], indent=2, ensure_ascii=False))
    else:
        _table(found)


def logs(
    run: One,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on printing until the run has ended.")] = False,
    rank: Annotated[int, typer.Option("--rank", help="The rank whose process is shown.")] = 0,
    job: Annotated[bool, typer.Option("--job", help="The job script's own output instead.")] = False,
    attempt: Annotated[int | None, typer.Option("--attempt", help="Default: all, one after the other.")] = None,
    runs_dir: RunsDir = RUNS,
) -> None:
    """Print what a rank printed, of every attempt in turn."""
    from saman.jobs.logs import pieces
    from saman.runs.find import find_run

    folder = find_run(run, runs_dir)
    for piece in pieces(folder, rank=rank, job=job, attempt=attempt, follow=follow):
        typer.echo(piece, nl=False)


def wait(
    runs: Some,
    timeout: Annotated[float | None, typer.Option("--timeout", help="Give up after so many seconds.")] = None,
    every: Annotated[float, typer.Option("--every", help="Seconds between looks.")] = 5.0,
    runs_dir: RunsDir = RUNS,
    as_json: Json = False,
) -> None:
    """Wait until all runs have ended; exit code 0 if every one completed, 1 if not."""
    from saman.configs.errors import ExitCode
    from saman.jobs.status import look

    folders = found_runs(runs, runs_dir)
    end = None if timeout is None else time.monotonic() + timeout
    found = look(folders)
    while not all(one.over for one in found) and (end is None or time.monotonic() < end):
        time.sleep(every if end is None else max(0.0, min(every, end - time.monotonic())))
        found = look(folders)
    if as_json:
        typer.echo(json.dumps([one.to_json() for one in found], indent=2, ensure_ascii=False))
    else:
        _table(found)
    if any(one.state != "completed" for one in found):
        raise typer.Exit(ExitCode.RUN_FAILED)


def cancel(runs: Some, runs_dir: RunsDir = RUNS) -> None:
    """End runs and take their jobs out of the queue."""
    from saman.jobs.cancel import cancel_runs

    for sentence in cancel_runs(found_runs(runs, runs_dir)):
        typer.echo(sentence)


def resume(
    runs: Some,
    here: Annotated[bool, typer.Option("--here", help="On this machine, even if the run was Slurm's.")] = False,
    ranks: Annotated[int | None, typer.Option("-np", metavar="N", help="Here: on another number of ranks.")] = None,
    partition: Annotated[str | None, typer.Option("--partition", "-p", help="Default: the same as before.")] = None,
    exclude: Annotated[list[str] | None, typer.Option("--exclude", help="A node to avoid (repeatable).")] = None,
    runs_dir: RunsDir = RUNS,
    models_dir: Annotated[Path, typer.Option("--models-dir", help="Folder of the models.")] = Path("models"),
) -> None:
    """Continue runs from their newest checkpoint, in the same run folders."""
    from saman.configs.errors import UserError
    from saman.jobs.resume import is_slurms, resume_there

    for run in _resumable(found_runs(runs, runs_dir)):
        if is_slurms(run) and not here:
            if ranks is not None:
                raise UserError("-np is for runs on this machine", where=run.id, remedy="add --here, or leave -np out")
            done = resume_there(run, partition, tuple(exclude or ()))
            typer.echo(f"{run.id}: job {done.job} continues it as attempt {len(run.attempts()) + 1}")
        else:
            _resume_here(run, runs_dir, models_dir, ranks)


def _resumable(runs: list[RunFolder]) -> list[RunFolder]:
    """Those of the runs that can go on; of several, the others are named, a single one is refused."""
    from saman.configs.errors import UserError
    from saman.jobs.resume import check_resumable

    found = []
    for run in runs:
        try:
            check_resumable(run)
            found.append(run)
        except UserError as error:
            if len(runs) == 1:
                raise
            typer.echo(f"{run.id}: {error.problem}")
    return found


def _resume_here(run: RunFolder, runs_dir: Path, models_dir: Path, ranks: int | None) -> None:
    from rich.console import Console

    from saman.cli.runs.run import finish
    from saman.cli.runs.view import RunView
    from saman.jobs.resume import is_slurms
    from saman.launcher.local import resume_locally
    from saman.launcher.planning import Options
    from saman.slurm.submission.run_jobs import record_taken_here

    if is_slurms(run):
        record_taken_here(run)
    console = Console()
    with RunView(console, run.experiment_name) as view:
        outcome = resume_locally(run, Options(runs_dir=runs_dir), view, ranks)
    finish(console, outcome, models_dir)


def _table(found: Sequence[RunStatus]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not found:
        typer.echo("no runs")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("run", "state", "job", "attempt"):
        table.add_column(heading, no_wrap=True, overflow="fold")
    table.add_column("", overflow="fold")
    for one in found:
        first = f"first failing rank {one.first_failing_rank}" if one.first_failing_rank is not None else ""
        exited = f"exit {one.exit_code}" if one.exit_code not in (None, 0) else ""
        detail = "; ".join(part for part in (exited, first, one.detail) if part)
        state = Text(one.state, style=_STYLES.get(one.state, ""))
        table.add_row(f"{one.name}/{one.id}", state, one.job or "", str(one.attempt or ""), Text(detail))
    console = Console()
    console = console if console.is_terminal else Console(width=240)  # nothing folded where a program reads
    console.print(table)
    if len(found) > 1:
        counts = Counter(one.state for one in found)
        console.print(Text(f"{len(found)} runs: " + ", ".join(f"{count} {state}" for state, count in counts.items())))
