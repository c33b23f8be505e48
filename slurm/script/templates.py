"""Compiles the templates of job scripts, which refuse a value that is not quoted."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

from saman.slurm.script.quoting import ShellText, shell


@cache
def template(package: str, name: str) -> Any:
    """A compiled template; compiling takes longer than a thousand lines of it.

    Args:
        package: the package that holds the file.
        name: the file's name.
    """
    from jinja2 import Environment, StrictUndefined

    source = (resources.files(package) / name).read_text(encoding="utf-8")
    environment = Environment(
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined,
        finalize=_only_quoted,
    )  # fmt: skip
    environment.filters["words"] = _words
    return environment.from_string(source)


def _only_quoted(value: Any) -> Any:
    if isinstance(value, (ShellText, int)):
        return value
    raise TypeError(f"the job script got the unquoted value {value!r}")


def _words(parts: tuple[str, ShellText]) -> ShellText:
    """A plain text and a quoted value as one word."""
    text, value = parts
    if not isinstance(value, ShellText):
        raise TypeError(f"the job script got the unquoted value {value!r}")
    return ShellText(shell(text) + value)
