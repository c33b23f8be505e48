"""``saman models``: numbered model versions on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(no_args_is_help=True, help="Numbered model versions: publish, verify, promote, roll back, export.")

ModelsDir = Annotated[Path, typer.Option("--models-dir", help="Folder of the models.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Why = Annotated[str, typer.Option("--why", help="The reason, for the audit log.")]
MODELS_DIR = Path("models")


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


@app.command("list")
def list_models(models_dir: ModelsDir = MODELS_DIR, as_json: Json = False) -> None:
    """List every model with its versions and labels."""
    from saman.registry.show import listing, listing_table

    rows = listing(models_dir)
    if as_json:
        _print_json(rows)
        return
    if not rows:
        typer.echo(f"no model is in {models_dir}; saman models publish RUN makes the first version")
        return
    from rich.console import Console

    Console().print(listing_table(rows))


@app.command()
def show(
    model: Annotated[str, typer.Argument(help="NAME, NAME:VERSION or NAME:LABEL.")],
    models_dir: ModelsDir = MODELS_DIR,
    as_json: Json = False,
) -> None:
    """Show what a version holds, what made it, how good it is and who published it."""
    from saman.registry.show import details, details_view

    facts = details(models_dir, model)
    if as_json:
        _print_json(facts)
        return
    from rich.console import Console

    Console().print(details_view(facts))


@app.command()
def publish(
    run: Annotated[str, typer.Argument(help="A run folder, a run id, an experiment's name, or last.")],
    model: Annotated[str | None, typer.Option("--model", help="Default: publish.model of the experiment.")] = None,
    why: Why = "",
    runs_dir: Annotated[Path, typer.Option("--runs-dir", help="Folder of the runs.")] = Path("runs"),
    models_dir: ModelsDir = MODELS_DIR,
    as_json: Json = False,
) -> None:
    """Make a finished run's export the next version of its model."""
    from saman.launcher.run_folder import find_run
    from saman.registry.publish import publish as publish_run

    version = publish_run(find_run(run, runs_dir), models_dir, model=model, why=why)
    if as_json:
        _print_json({"model": version.model, "version": version.number, "path": str(version.path), "new": version.new})
        return
    done = "published as" if version.new else "was already published as"
    typer.echo(f"{done} {version.model} version {version.number}: {version.path}")
