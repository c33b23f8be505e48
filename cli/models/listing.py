"""Lists, shows and checks model versions: list, show, verify, log, card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from saman.cli.models.arguments import Name, Spec
from saman.cli.options import MODELS, Json, ModelsDir
from saman.cli.output import print_json


def list_command(models_dir: ModelsDir = MODELS, as_json: Json = False) -> None:
    """List every model with its versions and labels.

    Example:

        saman models list
    """
    from saman.cli.models.tables import listing_table
    from saman.registry.listing import read_listing

    listing = read_listing(models_dir)
    if as_json:
        print_json([row.to_json() for row in listing.rows])
    elif listing.rows:
        from rich.console import Console

        Console().print(listing_table(listing.rows))
    elif not listing.damaged:
        typer.echo(f"{models_dir} has no model; saman models publish RUN publishes the first version")
    for model in listing.damaged:
        typer.echo(f"error: {model.model} cannot be listed: {model.problem}", err=True)
    if listing.damaged:
        raise typer.Exit(1)


def show_command(
    model: Annotated[str, typer.Argument(help="NAME, NAME:VERSION or NAME:LABEL.")],
    models_dir: ModelsDir = MODELS,
    as_json: Json = False,
) -> None:
    """Show a version: status, training, metrics, files and publisher.

    Example:

        saman models show digits:stable
    """
    from saman.cli.models.tables import details_view
    from saman.registry.listing import describe_version

    details = describe_version(models_dir, model)
    if as_json:
        print_json(details.to_json())
        return
    from rich.console import Console

    Console().print(details_view(details))


def verify_command(
    model: Annotated[str | None, typer.Argument(help="NAME, NAME:VERSION or NAME:LABEL; default: all models.")] = None,
    models_dir: ModelsDir = MODELS,
    as_json: Json = False,
) -> None:
    """Find changed model files and edited audit logs. Exit status 1 if there are any.

    Examples:

        saman models verify

        saman models verify digits:3
    """
    from dataclasses import asdict

    from saman.registry.lifecycle.verify import verify as find_damage
    from saman.registry.listing import list_versions

    found = find_damage(models_dir, model)
    count = len(list_versions(models_dir))
    if as_json:
        print_json([asdict(damage) for damage in found])
    elif not found:
        typer.echo(f"{model} is intact" if model else f"all {count} versions are intact")
    for damage in found if not as_json else ():
        typer.echo(str(damage))
    if found:
        raise typer.Exit(1)


def log_command(model: Name, models_dir: ModelsDir = MODELS, as_json: Json = False) -> None:
    """Show every change of a model: time, author, change and reason.

    Example:

        saman models log digits
    """
    from saman.cli.models.tables import log_table
    from saman.registry.listing import read_history

    entries = read_history(models_dir, model)
    if as_json:
        print_json([entry.to_json() for entry in entries])
        return
    from rich.console import Console

    Console().print(log_table(entries))


def card_command(
    model: Spec,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File; default: standard output.")] = None,
    models_dir: ModelsDir = MODELS,
) -> None:
    """Write a version's model card (Markdown).

    Example:

        saman models card digits:stable -o card.md
    """
    from saman.registry.model_card import render_card
    from saman.runs.files.whole import write_whole

    text = render_card(models_dir, model)
    if output is None:
        typer.echo(text)
    else:
        write_whole(output, text)
        typer.echo(f"written to {output}")
