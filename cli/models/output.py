"""Output that several commands of ``saman models`` share."""

from __future__ import annotations

import json
from typing import Any

import typer


def print_json(value: Any) -> None:
    """Print ``value`` as JSON."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_change(change: Any, done: str, already: str, as_json: bool) -> None:
    """Print ``done`` if a model was changed, else ``already``."""
    if as_json:
        labels = {"labels": change.state.labels, "changed": change.entry is not None}
        print_json({**labels, "entry": change.entry.to_json() if change.entry else None})
    else:
        typer.echo(done if change.entry else already)
