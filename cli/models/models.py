"""``saman models``: numbered model versions on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from saman.cli.options import MODELS, RUNS, Json, ModelsDir, RunsDir

app = typer.Typer(no_args_is_help=True, help="Numbered model versions: publish, verify, promote, roll back, export.")

Why = Annotated[str, typer.Option("--why", help="The reason, for the audit log.")]


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


@app.command("list")
def list_models(models_dir: ModelsDir = MODELS, as_json: Json = False) -> None:
    """List every model with its versions and labels.

    Example:

        saman models list
    """
    from saman.registry.listing import list_versions
    from saman.registry.tables import listing_table

    rows = list_versions(models_dir)
    if as_json:
        _print_json([row.to_json() for row in rows])
        return
    if not rows:
        typer.echo(f"{models_dir} has no model; saman models publish RUN publishes the first version")
        return
    from rich.console import Console

    Console().print(listing_table(rows))


@app.command()
def show(
    model: Annotated[str, typer.Argument(help="NAME, NAME:VERSION or NAME:LABEL.")],
    models_dir: ModelsDir = MODELS,
    as_json: Json = False,
) -> None:
    """Show a version: status, training, metrics, files and publisher.

    Example:

        saman models show digits:stable
    """
    from saman.registry.listing import describe_version
    from saman.registry.tables import details_view

    details = describe_version(models_dir, model)
    if as_json:
        _print_json(details.to_json())
        return
    from rich.console import Console

    Console().print(details_view(details))


@app.command()
def publish(
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
        _print_json({"model": version.model, "version": version.number, "path": str(version.path), "new": version.new})
        return
    done = "published as" if version.new else "was already published as"
    typer.echo(f"{done} {version.model} version {version.number}: {version.path}")


Spec = Annotated[str, typer.Argument(help="NAME, NAME:VERSION or NAME:LABEL.")]
Name = Annotated[str, typer.Argument(help="The model's name.")]


@app.command()
def verify(
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

    count = len(list_versions(models_dir))
    found = find_damage(models_dir, model)
    if as_json:
        _print_json([asdict(damage) for damage in found])
    elif not found:
        typer.echo(f"{model} is intact" if model else f"all {count} versions are intact")
    for damage in found if not as_json else ():
        typer.echo(str(damage))
    if found:
        raise typer.Exit(1)


@app.command()
def reconcile(
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
        _print_json({"steps": [step.to_json() for step in steps], "dry_run": dry_run})
        return
    for step in steps:
        typer.echo(str(step))
    typer.echo(f"steps {'pending' if dry_run else 'completed'}: {len(steps)}")


def _say(change: Any, done: str, already: str, as_json: bool) -> None:
    if as_json:
        labels = {"labels": change.state.labels, "changed": change.entry is not None}
        _print_json({**labels, "entry": change.entry.to_json() if change.entry else None})
    else:
        typer.echo(done if change.entry else already)


@app.command()
def promote(
    model: Spec,
    label: Annotated[str, typer.Option("--to", help="The label: stable, canary or a label of your own.")] = "stable",
    why: Why = "",
    models_dir: ModelsDir = MODELS,
    as_json: Json = False,
) -> None:
    """Put a label on a version. The label stable requires that all gates pass.

    Examples:

        saman models promote digits:3

        saman models promote digits:3 --to canary --why "trial"
    """
    from saman.registry.lifecycle import promotion

    change = promotion.promote(models_dir, model, label, why=why)
    number = change.state.assigned[label]
    text = f"{change.state.name} version {number} is {label}"
    left = change.entry.moved_from if change.entry else None
    _say(change, f"{text} now, instead of {left}" if left else f"{text} now", f"{text} already", as_json)


@app.command()
def rollback(model: Name, why: Why = "", models_dir: ModelsDir = MODELS, as_json: Json = False) -> None:
    """Make the previous stable version stable again.

    Example:

        saman models rollback digits --why "more errors"
    """
    from saman.registry.lifecycle.rollback import rollback as roll_back

    change = roll_back(models_dir, model, why=why)
    assert change.entry is not None
    to, left = change.entry.moved_to, change.entry.moved_from
    _say(change, f"{model} version {to} is stable again, instead of {left}", "", as_json)


@app.command()
def unlabel(
    model: Name,
    label: Annotated[str, typer.Argument(help="The label to take away.")],
    why: Why = "",
    models_dir: ModelsDir = MODELS,
    as_json: Json = False,
) -> None:
    """Take a label away.

    Example:

        saman models unlabel digits canary
    """
    from saman.registry.lifecycle import promotion

    change = promotion.unlabel(models_dir, model, label, why=why)
    _say(change, f"no version of {model} is {label} now", "", as_json)


@app.command()
def approve(
    model: Spec,
    by: Annotated[str, typer.Option("--by", help="The approver's name.")],
    why: Why = "",
    models_dir: ModelsDir = MODELS,
    as_json: Json = False,
) -> None:
    """Record an approval of a version; a policy may require approvals for stable.

    Example:

        saman models approve digits:3 --by Ada
    """
    from saman.registry.lifecycle import approval

    change = approval.approve(models_dir, model, by, why=why)
    _say(change, f"{by} approves {model}", f"{by} approved {model} before", as_json)


@app.command()
def retire(model: Spec, why: Why = "", models_dir: ModelsDir = MODELS, as_json: Json = False) -> None:
    """Stop offering a version; its files stay.

    Example:

        saman models retire digits:1
    """
    from saman.registry.lifecycle import pruning

    _say(pruning.retire(models_dir, model, why=why), f"{model} is retired", f"{model} was retired before", as_json)


@app.command()
def prune(
    model: Spec,
    keep: Annotated[
        int | None, typer.Option("--keep", help="Number of newest versions to keep; default: the policy.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the versions.")] = False,
    why: Why = "",
    models_dir: ModelsDir = MODELS,
    as_json: Json = False,
) -> None:
    """Remove a version, or all versions outside the keep policy; never a labelled version.

    Example:

        saman models prune digits --keep 3 --dry-run
    """
    from saman.registry.lifecycle import pruning

    gone = pruning.prune(models_dir, model, keep, why=why, act=not dry_run)
    if as_json:
        _print_json({"removed": gone, "dry_run": dry_run})
        return
    what = ", ".join(str(number) for number in gone) or "none"
    typer.echo(f"versions to remove: {what}" if dry_run else f"versions removed: {what}")


@app.command("log")
def show_log(model: Name, models_dir: ModelsDir = MODELS, as_json: Json = False) -> None:
    """Show every change of a model: time, author, change and reason.

    Example:

        saman models log digits
    """
    from saman.registry.listing import read_history
    from saman.registry.tables import log_table

    entries = read_history(models_dir, model)
    if as_json:
        _print_json([entry.to_json() for entry in entries])
        return
    from rich.console import Console

    Console().print(log_table(entries))


@app.command()
def config(
    base_path: Annotated[Path | None, typer.Option("--base-path", help="The models folder on the server.")] = None,
    models_dir: ModelsDir = MODELS,
) -> None:
    """Print models.config for TensorFlow Serving.

    Example:

        saman models config --base-path /models
    """
    from saman.registry.lifecycle import serving_config

    typer.echo(serving_config.expected(models_dir, base_path), nl=False)


@app.command()
def export(
    model: Spec,
    formats: Annotated[list[str], typer.Argument(help="saved_model, keras, tflite-float32, …, onnx, tfjs, or all.")],
    tolerance: Annotated[float, typer.Option("--tolerance", help="Largest change of the accuracy.")] = 0.01,
    why: Why = "",
    models_dir: ModelsDir = MODELS,
    as_json: Json = False,
) -> None:
    """Convert a version to other formats; each result is checked in its own runtime.

    Example:

        saman models export digits:stable onnx
    """
    from saman.configs.errors import UserError
    from saman.registry.formats.conversion import FORMATS, export_all
    from saman.registry.formats.parity import parity_table

    wanted = list(FORMATS) if formats == ["all"] else formats
    done, failed = [], []

    def say(text: str) -> None:
        typer.echo(text, err=True)

    for convert in export_all(models_dir, model, wanted, tolerance=tolerance, why=why, say=say):
        try:
            done.append(convert())
        except UserError as error:
            failed.append(error)
    if as_json:
        _print_json([{"path": str(path), **parity.to_json()} for path, parity in done])
    elif done:
        from rich.console import Console

        Console().print(parity_table([parity for _, parity in done]))
    if failed:
        first = failed[0]
        rest = [*first.others, *failed[1:]]
        failure = type(first)(first.problem, where=first.where, remedy=first.remedy, others=rest)
        raise failure


@app.command()
def sign(
    model: Spec,
    key: Annotated[Path, typer.Option("--key", help="Private key (elliptic curve, PEM).")],
    why: Why = "",
    models_dir: ModelsDir = MODELS,
) -> None:
    """Sign a version's manifest; a policy may require a signature for stable.

    Example:

        saman models sign digits:3 --key key.pem
    """
    from saman.registry.lifecycle.approval import sign as sign_version

    change = sign_version(models_dir, model, key, why=why)
    assert change.entry is not None
    typer.echo(f"{change.state.name} version {change.entry.version} is signed")


@app.command()
def card(
    model: Spec,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File; default: standard output.")] = None,
    models_dir: ModelsDir = MODELS,
) -> None:
    """Write a version's model card (Markdown).

    Example:

        saman models card digits:stable -o card.md
    """
    from saman.configs.files import write_whole
    from saman.registry.model_card import render_card

    text = render_card(models_dir, model)
    if output is None:
        typer.echo(text)
    else:
        write_whole(output, text)
        typer.echo(f"written to {output}")
