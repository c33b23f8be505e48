"""Quotes values for the job script: for bash, and for the parser of sbatch."""

from __future__ import annotations

import shlex
from pathlib import Path

from saman.configs.errors import UserError
from saman.configs.site.texts import control_characters
from saman.configs.variables_in_text import parts_of


class ShellText(str):
    """Text that is already quoted for the script."""


def shell(value: str | Path) -> ShellText:
    """``value`` as one word of bash."""
    text = str(value)
    if "\0" in text:
        raise UserError(f"{text!r} contains a NUL character, which no command accepts")
    return ShellText(shlex.quote(text))


def expanded(value: str | Path) -> ShellText:
    """``value`` as one word of bash in which the variables of ``EXPANDED`` are expanded, and nothing else."""
    words = [f'"${{{part.text}:?}}"' if part.is_variable else shell(part.text) for part in parts_of(str(value))]
    return ShellText("".join(words) or "''")


def option(text: str) -> ShellText:
    """An option as it is; the caller has checked it."""
    return ShellText(text)


def path_option(name: str, path: Path, pattern: str = "") -> ShellText:
    """The option ``--name="path"`` for sbatch: ``%`` doubled, quotes escaped.

    Args:
        name: the option's name without dashes.
        path: the path.
        pattern: a file name pattern of Slurm that follows the path, unescaped.

    Raises:
        UserError: The path contains a backslash or a control character.
    """
    text = str(path)
    bad = control_characters(text)
    if bad or "\\" in text:
        what = "a backslash" if not bad else f"the character {bad[0]!r}"
        raise UserError(
            f"the path contains {what}, which Slurm does not accept", where=text, remedy="another --runs-dir"
        )
    escaped = text.replace("%", "%%").replace('"', '\\"')
    return ShellText(f'--{name}="{escaped}{pattern}"')


def extra_option(text: str) -> ShellText:
    """A line of the cluster file's ``sbatch``; its value becomes one word (the schema allows no quotes in it)."""
    name, equals, value = text.partition("=")
    return ShellText(f'{name}="{value}"' if equals else name)


def comment(text: str) -> ShellText:
    """``text`` on one line of a comment."""
    return ShellText(text.encode("unicode_escape").decode() if not text.isprintable() else text)
