"""``saman track``: shows runs in MLflow and TensorBoard."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from saman.cli.options import RUNS, Json, RunsDir


def track(
    runs: Annotated[list[str] | None, typer.Argument(help="Runs; default: all that wait for a server.")] = None,
    mlflow: Annotated[
        str | None, typer.Option("--mlflow", help="Tracking URI; default: what the experiment says.")
    ] = None,
    tensorboard: Annotated[str | None, typer.Option("--tensorboard", help="Folder for event files.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on while the run does.")] = False,
    runs_dir: RunsDir = RUNS,
    as_json: Json = False,
) -> None:
    """Copy parameters, metrics, figures and published versions of runs to MLflow or TensorBoard. Can be repeated."""
    from saman.configs.errors import UserError
    from saman.configs.problems import validated
    from saman.configs.schemas.tracking import Tracking
    from saman.registry.tracking import delivery
    from saman.runs.find import find_run

    values = {"mlflow": mlflow, "tensorboard": tensorboard}
    wanted = validated(Tracking, values, "command line") if any(values.values()) else None
    if not runs:
        if wanted is not None or follow:
            raise UserError("name the runs to show", remedy="saman track RUN --mlflow URI")
        done = delivery.track_waiting(runs_dir)
    elif follow:
        done = [delivery.follow(find_run(runs[0], runs_dir), wanted)]
    else:
        done = [delivery.track(find_run(one, runs_dir), wanted) for one in runs]
    if as_json:
        facts = [{"run": one.run.id, "places": list(one.places), "problem": one.problem} for one in done]
        typer.echo(json.dumps(facts, indent=2))
    for one in done if not as_json else ():
        typer.echo(f"{one.run.id}: {'; '.join(one.places) or 'nowhere yet'}")
        if one.problem:
            typer.echo(f"  waits, nothing is lost: {one.problem}")
    if not done and not as_json:
        typer.echo("no run waits to be shown")
    if any(one.problem for one in done):
        raise typer.Exit(3)
