"""``saman track``: delivers runs to MLflow and TensorBoard."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from saman.cli.options import RUNS, Json, RunsDir


def track_command(
    runs: Annotated[list[str] | None, typer.Argument(help="Runs; default: all runs not delivered yet.")] = None,
    mlflow: Annotated[
        str | None, typer.Option("--mlflow", help="Tracking URI; default: tracking.mlflow of the experiment.")
    ] = None,
    tensorboard: Annotated[str | None, typer.Option("--tensorboard", help="Folder of the event files.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Repeat until the run has ended.")] = False,
    runs_dir: RunsDir = RUNS,
    as_json: Json = False,
) -> None:
    """Copy parameters, metrics, figures and published versions of runs to MLflow or TensorBoard. Safe to repeat.

    Examples:

        saman track

        saman track last --mlflow http://localhost:5000

        saman track last --tensorboard logs --follow
    """
    from saman.configs.errors import ExitCode, UserError
    from saman.configs.problems import validated
    from saman.configs.schemas.tracking import Tracking
    from saman.registry.tracking import delivery
    from saman.runs.find import find_run

    values = {"mlflow": mlflow, "tensorboard": tensorboard}
    wanted = validated(Tracking, values, "command line") if any(values.values()) else None
    if not runs:
        if wanted is not None or follow:
            raise UserError("missing run", remedy="saman track RUN --mlflow URI")
        done = delivery.track_waiting(runs_dir)
    elif follow:
        done = [delivery.follow(find_run(runs[0], runs_dir), wanted)]
    else:
        done = [delivery.track(find_run(name, runs_dir), wanted) for name in runs]
    if as_json:
        facts = [{"run": sent.run.id, "places": list(sent.places), "problem": sent.problem} for sent in done]
        typer.echo(json.dumps(facts, indent=2))
    for sent in done if not as_json else ():
        typer.echo(f"{sent.run.id}: {'; '.join(sent.places) or 'not delivered yet'}")
        if sent.problem:
            typer.echo(f"  waits, nothing is lost: {sent.problem}")
    if not done and not as_json:
        typer.echo("every run is delivered")
    if any(sent.problem for sent in done):
        raise typer.Exit(ExitCode.ENVIRONMENT)
