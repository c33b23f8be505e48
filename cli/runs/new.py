"""``saman new``: a small project that runs at once."""

from __future__ import annotations

from typing import Annotated

import typer


def new_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the project, its folder and its model.")],
) -> None:
    """Make a small project in the folder NAME: own model, own data, an experiment, a study, tests.

    It runs as it is. Replace the model and the data by your own.

    Examples:

        saman new spirals
    """
    from pathlib import Path

    from saman.configs.loading.project import make_project

    folder = make_project(Path(name))
    typer.echo(f"{folder} is ready:")
    typer.echo(f"  cd {folder}")
    typer.echo("  saman run experiment.yaml     trains on two ranks")
    typer.echo("  README.md                     says what else there is")
