"""``saman watch``: the vital signs of a run in the terminal, while it goes on."""

from __future__ import annotations

import time
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated

import typer

from saman.cli.options import RUNS, RunsDir
from saman.configs.errors import ExitCode, UserError

if TYPE_CHECKING:
    from saman.jobs.status import RunStatus
    from saman.launcher.monitoring.vitals import RunReader
    from saman.runs.folder import RunFolder

STATUS_SECONDS = 5.0  # between two looks at the status, which may ask Slurm


def watch_command(
    run: Annotated[str | None, typer.Argument(help="A run folder, a run id, an experiment's name, or last.")] = None,
    every: Annotated[float, typer.Option("--every", min=0.2, max=3600, help="Seconds between two looks.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Show the run once, as without a terminal.")] = False,
    as_metrics: Annotated[
        bool, typer.Option("--prometheus", help="Print the run's metrics in Prometheus's text format, once.")
    ] = False,
    alert_rules: Annotated[
        bool, typer.Option("--alert-rules", help="Print the alert rules for Prometheus; needs no run.")
    ] = False,
    runs_dir: RunsDir = RUNS,
) -> None:
    """Watch a run: progress, step times, loss, checkpoints, slow ranks, restarts. Ends with the run, or with Ctrl-C.

    Examples:

        saman watch last

        saman watch --alert-rules > saman.rules.yaml
    """
    if alert_rules:
        typer.echo(files("saman.launcher.monitoring").joinpath("alerts/saman.rules.yaml").read_text("utf-8"), nl=False)
        return
    from saman.launcher.monitoring.exposition import exposition
    from saman.launcher.monitoring.series import labels_of, series_of
    from saman.launcher.monitoring.vitals import RunReader

    found = _found("last" if run is None else run, runs_dir)
    reader = RunReader(found)
    try:
        if as_metrics:
            vitals, _ = reader.look()
            typer.echo(exposition(series_of(vitals), labels_of(vitals)), nl=False)
            return
        _watch(found, reader, every, once)
    finally:
        reader.close()


def _found(name: str, runs_dir: RunsDir) -> RunFolder:
    from saman.cli.remote.forwarding import named_runs
    from saman.runs.find import find_run

    here, there = named_runs([name], runs_dir)
    if there:
        remedy = f"saman status {name}, or run saman watch there"
        raise UserError("this run is on a cluster that is reached over ssh", where=name, remedy=remedy)
    return find_run(here[0], runs_dir)


def _watch(run: RunFolder, reader: RunReader, every: float, once: bool) -> None:
    from rich.console import Console
    from rich.live import Live

    from saman.cli.run_picture import RunPicture
    from saman.cli.terminal import own_stream

    console = Console()
    picture = RunPicture()
    status = _status(run)
    picture.take(*reader.look(), status)
    if not once and console.is_terminal and not status.over:
        console.file = own_stream(console.file)  # its texts are cleaned where they are made
        asked = time.monotonic()
        with Live(get_renderable=picture.render, console=console, screen=True, refresh_per_second=4):
            while not status.over:
                time.sleep(every)
                if time.monotonic() - asked > STATUS_SECONDS or picture.ended:
                    status, asked = _status(run), time.monotonic()
                picture.take(*reader.look(), status)
    console.print(picture.render())
    if status.over and not status.succeeded:
        raise typer.Exit(ExitCode.RUN_FAILED)


def _status(run: RunFolder) -> RunStatus:
    from saman.jobs.status import read_status

    return read_status([run])[0]
