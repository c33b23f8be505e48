"""Prints a change of a model, the same way for every command that makes changes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import typer

from saman.cli.output import print_json


def print_change(change: Any, done: str, already: str, as_json: bool) -> None:
    """Print ``done`` if a model was changed, else ``already``."""
    if as_json:
        labels = {"labels": change.state.labels, "changed": change.entry is not None}
        print_json({**labels, "entry": change.entry.to_json() if change.entry else None})
    else:
        typer.echo(done if change.entry else already)


def follow_serving_config(models_dir: Path, model: str, wait: bool) -> None:
    """Say when ``models.config`` moves a label that it holds back, or wait for it and rewrite the file."""
    from saman.registry.lifecycle import serving_config
    from saman.registry.store.layout import find_model

    folder = find_model(models_dir, model)
    while (seconds := serving_config.waiting_seconds(folder)) is not None and wait:
        time.sleep(min(seconds, 1.0))
        serving_config.refresh(models_dir)
    if seconds is not None:
        text = f"{serving_config.FILE} lists the version now and may move the label in {seconds:.0f} s"
        typer.echo(f"{text}: saman models reconcile, or --wait", err=True)
