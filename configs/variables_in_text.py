"""Variables in the texts of a cluster file: a named set, expanded in the job. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from saman.configs.errors import EnvironmentLack

EXPANDED = ("HOME", "USER", "SLURM_JOB_ID", "TMPDIR", "SCRATCH", "WORK")
_VARIABLE = re.compile(r"\$(?:(\$)|\{([^}]*)\}|([A-Za-z_]\w*))")


@dataclass(frozen=True)
class Part:
    """A part of a text: plain text, or the name of a variable."""

    text: str
    is_variable: bool = False


def parts_of(text: str) -> Iterator[Part]:
    """Split a text into plain text and variables; ``$$`` stands for a dollar sign.

    >>> [part.text for part in parts_of("/scratch/$USER/a$$b")]
    ['/scratch/', 'USER', '/a', '$', 'b']
    """
    at = 0
    for match in _VARIABLE.finditer(text):
        if match.start() > at:
            yield Part(text[at : match.start()])
        yield Part("$") if match[1] else Part(match[2] if match[2] is not None else match[3], is_variable=True)
        at = match.end()
    if at < len(text):
        yield Part(text[at:])


def check_variables(text: str) -> str:
    """Return ``text``; raise ``ValueError`` for a variable that no job expands."""
    for part in parts_of(text):
        if part.is_variable and part.text not in EXPANDED:
            known = ", ".join(f"${name}" for name in EXPANDED)
            raise ValueError(f"${part.text} is not expanded here; only {known} are, and $$ is a dollar sign")
    return text


def expand(text: str, environ: Mapping[str, str]) -> str:
    """The text with its ``${env:NAME}`` variables replaced by their values; ``EnvironmentLack`` if one is not set."""
    found = []
    for part in parts_of(text):
        if part.is_variable and part.text not in environ:
            raise EnvironmentLack(f"${part.text} is not set", where=f"cluster file: {text}")
        found.append(environ[part.text] if part.is_variable else part.text)
    return "".join(found)
