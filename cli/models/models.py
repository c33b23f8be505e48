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
    from saman.registry.listing import listing, listing_table

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
    from saman.registry.listing import details, details_view

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
    models_dir: ModelsDir = MODELS_DIR,
    as_json: Json = False,
) -> None:
    """Find every file that is not as it was published, and every edit of an audit log; exit code 1 if there is any."""
    from dataclasses import asdict

    from saman.registry.lifecycle.verify import verify as find_damage
    from saman.registry.listing import listing

    count = len(listing(models_dir))
    found = find_damage(models_dir, model)
    if as_json:
        _print_json([asdict(one) for one in found])
    elif not found:
        typer.echo(f"{model} is as it was published" if model else f"all {count} versions are as they were published")
    for one in found if not as_json else ():
        typer.echo(str(one))
    if found:
        raise typer.Exit(1)


def _say(change: Any, done: str, already: str, as_json: bool) -> None:
    if as_json:
        labels = {"labels": change.state.labels, "changed": change.entry is not None}
        _print_json({**labels, "entry": change.entry.to_json() if change.entry else None})
    else:
        typer.echo(done if change.entry else already)


@app.command()
def promote(
    model: Spec,
    label: Annotated[str, typer.Option("--to", help="The label: stable, canary or a word of your own.")] = "stable",
    why: Why = "",
    models_dir: ModelsDir = MODELS_DIR,
    as_json: Json = False,
) -> None:
    """Put a label on a version, which must pass the gates to become stable."""
    from saman.registry.lifecycle import changes

    change = changes.promote(models_dir, model, label, why=why)
    number = change.state.assigned[label]
    text = f"{change.state.name} version {number} is {label}"
    left = change.entry.facts["from"] if change.entry else None
    _say(change, f"{text} now, instead of {left}" if left else f"{text} now", f"{text} already", as_json)


@app.command()
def rollback(model: Name, why: Why = "", models_dir: ModelsDir = MODELS_DIR, as_json: Json = False) -> None:
    """Make the version that was stable before this one stable again."""
    from saman.registry.lifecycle import changes

    change = changes.rollback(models_dir, model, why=why)
    assert change.entry is not None
    facts = change.entry.facts
    _say(change, f"{model} version {facts['to']} is stable again, instead of {facts['from']}", "", as_json)


@app.command()
def unlabel(
    model: Name,
    label: Annotated[str, typer.Argument(help="The label to take away.")],
    why: Why = "",
    models_dir: ModelsDir = MODELS_DIR,
    as_json: Json = False,
) -> None:
    """Take a label away from the version that has it."""
    from saman.registry.lifecycle import changes

    change = changes.unlabel(models_dir, model, label, why=why)
    _say(change, f"no version of {model} is {label} now", "", as_json)


@app.command()
def approve(
    model: Spec,
    by: Annotated[str, typer.Option("--by", help="Who approves, by name.")],
    why: Why = "",
    models_dir: ModelsDir = MODELS_DIR,
    as_json: Json = False,
) -> None:
    """Record a person's approval of a version, which a policy may ask for before it becomes stable."""
    from saman.registry.lifecycle import changes

    change = changes.approve(models_dir, model, by, why=why)
    _say(change, f"{by} approves of {model}", f"{by} approved of {model} before", as_json)


@app.command()
def retire(model: Spec, why: Why = "", models_dir: ModelsDir = MODELS_DIR, as_json: Json = False) -> None:
    """Offer a version no longer; its files stay."""
    from saman.registry.lifecycle import changes

    _say(changes.retire(models_dir, model, why=why), f"{model} is retired", f"{model} was retired before", as_json)


@app.command()
def prune(
    model: Spec,
    keep: Annotated[
        int | None, typer.Option("--keep", help="How many of the newest stay; default: the policy.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go.")] = False,
    why: Why = "",
    models_dir: ModelsDir = MODELS_DIR,
    as_json: Json = False,
) -> None:
    """Remove the versions that the keep policy lets go, or one; never one with a label."""
    from saman.registry.lifecycle import changes

    gone = changes.prune(models_dir, model, keep, why=why, act=not dry_run)
    if as_json:
        _print_json({"removed": gone, "dry_run": dry_run})
        return
    what = ", ".join(str(number) for number in gone) or "none"
    typer.echo(f"versions that would go: {what}" if dry_run else f"versions removed: {what}")


@app.command("log")
def show_log(model: Name, models_dir: ModelsDir = MODELS_DIR, as_json: Json = False) -> None:
    """Show every change of a model: who, when, what, from which to which, why."""
    from saman.registry.lifecycle.changes import history
    from saman.registry.listing import log_table

    entries = history(models_dir, model)
    if as_json:
        _print_json([entry.to_json() for entry in entries])
        return
    from rich.console import Console

    Console().print(log_table(entries))


@app.command()
def config(
    base_path: Annotated[Path | None, typer.Option("--base-path", help="Where the server sees the models.")] = None,
    models_dir: ModelsDir = MODELS_DIR,
) -> None:
    """Print models.config for TensorFlow Serving, after bringing the file up to date."""
    from saman.registry.lifecycle import serving_config
    from saman.registry.lifecycle.reconcile import look_all

    look_all(models_dir)
    typer.echo(serving_config.current(models_dir, base_path), nl=False)


@app.command()
def export(
    model: Spec,
    formats: Annotated[list[str], typer.Argument(help="saved_model, keras, tflite-float32, …, onnx, tfjs, or all.")],
    tolerance: Annotated[float, typer.Option("--tolerance", help="Largest change of the accuracy.")] = 0.01,
    why: Why = "",
    models_dir: ModelsDir = MODELS_DIR,
    as_json: Json = False,
) -> None:
    """Convert a version to other formats, each checked by running it in its own runtime."""
    from dataclasses import asdict

    from saman.configs.errors import UserError
    from saman.registry.formats.exports import FORMATS, export_all, parity_table

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
        _print_json([{"path": str(path), **asdict(parity)} for path, parity in done])
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
    models_dir: ModelsDir = MODELS_DIR,
) -> None:
    """Sign a version's manifest, which a policy may ask for before it becomes stable."""
    from saman.registry.lifecycle.changes import sign as sign_version

    change = sign_version(models_dir, model, key, why=why)
    assert change.entry is not None
    typer.echo(f"{change.state.name} version {change.entry.facts['version']} is signed")


@app.command()
def card(
    model: Spec,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File; default: standard output.")] = None,
    models_dir: ModelsDir = MODELS_DIR,
) -> None:
    """Write a version's documentation page (Markdown)."""
    from saman.configs.files import write_whole
    from saman.registry.model_card import card as write_card

    text = write_card(models_dir, model)
    if output is None:
        typer.echo(text)
    else:
        write_whole(output, text)
        typer.echo(f"written to {output}")
