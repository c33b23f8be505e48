"""Adds, repairs and removes model versions: publish, reconcile, retire, prune."""

from __future__ import annotations

from typing import Annotated

import typer

from saman.cli.models.arguments import Numbered, Spec, Why
from saman.cli.models.changes import print_change
from saman.cli.options import MODELS, RUNS, Json, ModelsDir, RunsDir
from saman.cli.output import print_json


def publish_command(
    run: Annotated[str, typer.Argument(help="A run folder, a run id, an experiment's name, or last.")],
    model: Annotated[str | None, typer.Option("--model", help="Default: publish.model of the experiment.")] = None,
    why: Why = "",
    runs_dir: RunsDir = RUNS,
    models_dir: ModelsDir = MODELS,
    as_json: Json = False,
) -> None:
    """Publish a finished run's export as the next version of its model.

    Examples:

        saman models publish last

        saman models publish last --model digits --why "more data"
    """
    from saman.registry.lifecycle.publish import publish as publish_run
    from saman.runs.find import find_run

    version = publish_run(find_run(run, runs_dir), models_dir, model=model, why=why)
    if as_json:
        print_json({"model": version.model, "version": version.number, "path": str(version.path), "new": version.new})
        return
    done = "published as" if version.new else "was already published as"
    typer.echo(f"{done} {version.model} version {version.number}: {version.path}")


def reconcile_command(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the steps.")] = False,
    models_dir: ModelsDir = MODELS,
    as_json: Json = False,
) -> None:
    """Complete interrupted changes of all models, and rewrite models.config.

    Example:

        saman models reconcile --dry-run
    """
    from saman.registry.lifecycle.reconcile import reconcile_all

    steps = reconcile_all(models_dir, act=not dry_run)
    if as_json:
        print_json({"steps": [step.to_json() for step in steps], "dry_run": dry_run})
        return
    for step in steps:
        typer.echo(str(step))
    typer.echo(f"steps {'pending' if dry_run else 'completed'}: {len(steps)}")


def retire_command(model: Numbered, why: Why = "", models_dir: ModelsDir = MODELS, as_json: Json = False) -> None:
    """Retire a version: it is no longer served or selected, but its files stay.

    Example:

        saman models retire digits:1
    """
    from saman.registry.lifecycle import pruning

    print_change(
        pruning.retire(models_dir, model, why=why), f"{model} is retired", f"{model} was retired before", as_json
    )


def prune_command(
    model: Spec,
    keep: Annotated[
        int | None, typer.Option("--keep", help="Number of newest versions to keep; default: the policy.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the versions.")] = False,
    why: Why = "",
    models_dir: ModelsDir = MODELS,
    as_json: Json = False,
) -> None:
    """Remove NAME:VERSION or, for NAME alone, all versions that the keep policy does not keep.

    Labelled versions are never removed.

    Example:

        saman models prune digits --keep 3 --dry-run
    """
    from saman.registry.lifecycle import pruning

    gone = pruning.prune(models_dir, model, keep, why=why, act=not dry_run)
    if as_json:
        print_json({"removed": gone, "dry_run": dry_run})
        return
    what = ", ".join(str(number) for number in gone) or "none"
    typer.echo(f"versions to remove: {what}" if dry_run else f"versions removed: {what}")
