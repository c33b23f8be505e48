"""Numbers, paths and JSON as the commands print them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer


def print_json(value: Any) -> None:
    """Print ``value`` as JSON."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def short_number(value: float) -> str:
    """A number as the terminal shows it: three significant digits, thousands as k, millions as M.

    >>> short_number(12345.6)
    '12.3k'
    """
    for limit, suffix in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{suffix}"
    return f"{value:.3g}"


def shown_path(path: Path) -> str:
    """A path as the terminal shows it: relative to the current folder if it is below."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
