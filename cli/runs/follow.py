"""``saman status | logs | wait | cancel | resume``: runs after their start, on this machine or on Slurm."""

from __future__ import annotations

import gc
from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from saman.cli.log_lines import progress_lines, without_chatter
from saman.cli.options import MODELS, RUNS, Exclude, Json, ModelsDir, RunsDir
from saman.cli.output import print_json
from saman.configs.terminal_text import clean_text
from saman.jobs.selection import found_run, found_runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from saman.cli.runs.view import RunView
    from saman.jobs.status import RunStatus
    from saman.runs.folder import RunFolder

AnyRuns = Annotated[
    list[str] | None, typer.Argument(help="Runs or studies: folders, ids, names, or last. Default: the newest runs.")
]
SeveralRuns = Annotated[list[str], typer.Argument(help="Runs or studies: folders, ids, names, or last.")]
SingleRun = Annotated[str, typer.Argument(help="A run folder, a run id, an experiment's name, or last.")]
MOST_LAID_OUT = 200  # rows; the layout of a row takes half a millisecond
_HEADINGS = ("run", "state", "job", "attempt", "")
_STYLES = {
    "completed": "green", "failed": "red", "vanished": "red", "damaged": "red", "running": "cyan", "cancelled": "yellow"
}  # fmt: skip


def status_command(
    runs: AnyRuns = None,
    newest: Annotated[int, typer.Option("--newest", min=0, help="Number of runs to show if none are named.")] = 20,
    runs_dir: RunsDir = RUNS,
    as_json: Json = False,
) -> None:
    """Show the state of runs: why a run is queued, how far it has progressed, or how it ended.

    Examples:

        saman status

        saman status last --json
    """
    from saman.cli.remote.forwarding import exit_with, named_runs, run_there, statuses_there
    from saman.jobs.reconcile import reconcile

    gc.set_threshold(10_000)  # thousands of runs make many values, all of which are shown; an eighth of the time
    here, there = named_runs(runs, runs_dir, newest)
    elsewhere = {remote.run.id for remote in there}
    mine = found_runs(here, runs_dir, newest) if here or not runs else []
    found = reconcile([run for run in mine if run.id not in elsewhere])
    if as_json and there:
        print_json([*(status.to_json() for status in found), *statuses_there(there)])
        return
    if found or not there:
        _print_status(found, as_json)
    exit_with(run_there(there, ["status"], again=True))


def logs_command(
    run: SingleRun,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Continue until the run has ended.")] = False,
    rank: Annotated[
        int, typer.Option("--rank", min=0, help="Show the output of the process that holds this rank.")
    ] = 0,
    job: Annotated[bool, typer.Option("--job", help="Show the job script's output instead.")] = False,
    attempt: Annotated[int | None, typer.Option("--attempt", min=1, help="Default: all attempts in turn.")] = None,
    runs_dir: RunsDir = RUNS,
) -> None:
    """Print the output of a rank, attempt after attempt.

    Examples:

        saman logs last -f

        saman logs last --rank 3 --attempt 2
    """
    from saman.cli.remote.forwarding import exit_with, logs_there, named_runs
    from saman.jobs.logs import read_logs
    from saman.jobs.remote.wire import LogRequest

    here, there = named_runs([run], runs_dir)
    for remote in there:
        name = f"{remote.run.experiment_name}/{remote.run.id}"
        wanted = LogRequest(name, rank, job, attempt, follow)
        exit_with(logs_there(remote, wanted, lambda text: typer.echo(text, nl=False)))
        return
    found = found_run(here[0], runs_dir)
    tell = progress_lines() if follow and not found.is_script else None
    printed = False
    for piece in read_logs(found, rank=rank, job=job, attempt=attempt, follow=follow, tell=tell):
        printed = printed or bool(piece.text)
        text = piece.text if found.is_script or job else without_chatter(piece.text)
        typer.echo(clean_text(text), nl=False)
    if not printed:
        typer.echo("the job has printed nothing yet" if job else f"rank {rank} has printed nothing yet", err=True)


def wait_command(
    runs: SeveralRuns,
    timeout: Annotated[float | None, typer.Option("--timeout", min=0, help="Give up after this many seconds.")] = None,
    every: Annotated[float, typer.Option("--every", min=0.1, help="Seconds between checks of the run folders.")] = 5.0,
    runs_dir: RunsDir = RUNS,
    as_json: Json = False,
) -> None:
    """Wait until all runs have ended. Exit status 0 if every run completed, else 1.

    Example:

        saman wait my-study --timeout 3600
    """
    from saman.cli.remote.forwarding import exit_with, named_runs, run_there
    from saman.configs.errors import ExitCode
    from saman.jobs.reconcile import wait_for_runs

    here, there = named_runs(runs, runs_dir)
    if here or not there:
        statuses = wait_for_runs(found_runs(here, runs_dir), timeout, every)
        _print_status(statuses, as_json)
        if not all(status.succeeded for status in statuses):
            raise typer.Exit(ExitCode.RUN_FAILED)
    options = [f"--every={every}", *([f"--timeout={timeout}"] if timeout is not None else [])]
    exit_with(run_there(there, ["wait", *options, *["--json"] * as_json], again=True))


def cancel_command(runs: SeveralRuns, runs_dir: RunsDir = RUNS) -> None:
    """Cancel runs: remove their jobs from the queue, or end their processes.

    A local run writes a checkpoint first if that takes less than 20 s.

    Example:

        saman cancel last
    """
    from saman.cli.remote.forwarding import exit_with, named_runs, run_there
    from saman.jobs.cancel import cancel_runs

    here, there = named_runs(runs, runs_dir, reading=False)
    if here:
        for sentence in cancel_runs(found_runs(here, runs_dir)):
            typer.echo(sentence)
    exit_with(run_there(there, ["cancel"]))


def resume_command(
    runs: SeveralRuns,
    here: Annotated[
        bool, typer.Option("--here", help="Continue on this machine, even if the run was started on Slurm.")
    ] = False,
    ranks: Annotated[int | None, typer.Option("-np", metavar="N", help="With --here: number of ranks.")] = None,
    partition: Annotated[str | None, typer.Option("--partition", "-p", help="Default: the same as before.")] = None,
    exclude: Exclude = None,
    runs_dir: RunsDir = RUNS,
    models_dir: ModelsDir = MODELS,
) -> None:
    """Continue runs from their newest checkpoint, in the same run folders.

    Examples:

        saman resume last

        saman resume my-study --partition long --exclude node7

        saman resume last --here -np 2
    """
    from rich.console import Console

    from saman.cli.remote.forwarding import exit_with, named_runs, run_there
    from saman.cli.runs.outcome import end_with
    from saman.cli.runs.view import RunView
    from saman.jobs.resume import ResumeRequest, resume_runs

    console = Console()

    def view(run: RunFolder) -> RunView:
        return RunView(console, run.experiment_name)

    request = ResumeRequest(
        here=here, ranks=ranks, partition=partition, exclude=tuple(exclude or ()), runs_dir=runs_dir,
        models_dir=models_dir,
    )  # fmt: skip
    elsewhere, there = named_runs(runs, runs_dir, reading=False)
    if there and not here:
        exit_with(run_there(there, ["resume", *_resume_options(ranks, partition, exclude)]))
        for remote in there:
            remote.with_complete(False)
        runs = elsewhere
    for resumed in resume_runs(found_runs(runs, runs_dir), request, view) if runs else ():
        run = resumed.run
        if resumed.finished is not None:
            end_with(console, resumed.finished)
        elif resumed.submission is not None:
            attempt = len(run.attempts()) + 1
            typer.echo(f"{run.id}: job {resumed.submission.job} continues it as attempt {attempt}")
        else:
            typer.echo(f"{run.id}: {resumed.skipped}")


def _resume_options(ranks: int | None, partition: str | None, exclude: Sequence[str] | None) -> list[str]:
    options = [] if ranks is None else ["-np", str(ranks)]
    options += [] if partition is None else ["--partition", partition]
    return options + [word for node in exclude or () for word in ("--exclude", node)]


def _print_status(statuses: Sequence[RunStatus], as_json: bool) -> None:
    if as_json:
        print_json([status.to_json() for status in statuses])
    else:
        _print_table(statuses)


def _print_table(statuses: Sequence[RunStatus]) -> None:
    if not statuses:
        typer.echo("no runs")
        return
    rows = [_row(status) for status in statuses]
    if len(rows) > MOST_LAID_OUT:
        _print_plain(rows)
    else:
        _print_laid_out(rows)
    if len(statuses) > 1:
        counts = Counter(str(status.state) for status in statuses)
        parts = ", ".join(f"{count} {state}" for state, count in counts.items())
        typer.echo(f"{len(statuses)} runs: {parts}")


def _row(status: RunStatus) -> tuple[str, ...]:
    first = f"first failing rank {status.first_failing_rank}" if status.first_failing_rank is not None else ""
    exited = f"exit {status.exit_code}" if status.exit_code not in (None, 0) else ""
    detail = "; ".join(part for part in (exited, first, status.detail) if part)
    name = f"{status.name}/{status.id}"
    name = f"{status.step}: {name}" if status.step else name
    return name, str(status.state), status.job or "", str(status.attempt or ""), detail


def _print_laid_out(rows: Sequence[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for heading in _HEADINGS[:-1]:
        table.add_column(heading, no_wrap=True, overflow="fold")
    table.add_column(_HEADINGS[-1], overflow="fold")
    for name, state, job, attempt, detail in rows:
        table.add_row(name, Text(state, style=_STYLES.get(state, "")), job, attempt, Text(detail))
    console = Console()
    console = console if console.is_terminal else Console(width=240)  # no folding in output for programs
    console.print(table)


def _print_plain(rows: Sequence[tuple[str, ...]]) -> None:
    """The same table without colours and folding, at a hundredth of the time per row."""
    clean = [tuple(clean_text(cell).replace("\n", " ") for cell in row) for row in (_HEADINGS, *rows)]
    widths = [max(map(len, column)) for column in zip(*clean, strict=True)][:-1]
    form = "".join(f"{{:<{width}}}  " for width in widths) + "{}"
    typer.echo("\n".join(form.format(*row).rstrip() for row in clean))
