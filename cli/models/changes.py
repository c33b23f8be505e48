"""Prints a change of a model, the same way for every command that makes changes."""

from __future__ import annotations

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
