"""Texts of a cluster file that are safe where they end up: in ``#SBATCH`` lines, as arguments, as paths."""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator

from saman.configs.variables_in_text import check_variables, parts_of

_CONTROL = ("Cc", "Zl", "Zp")  # Unicode's control characters and ends of lines and paragraphs


def matching(pattern: str, what: str, example: str) -> AfterValidator:
    """A validator of a cluster file's text: all of it matches ``pattern``; the rest is for the message."""
    compiled = re.compile(pattern)

    def check(text: str) -> str:
        if compiled.fullmatch(text) is None:
            raise ValueError(f"{text!r} is not {what}, such as {example}")
        return text

    return AfterValidator(check)


def control_characters(text: str) -> list[str]:
    """Return the control characters of a cluster file's text, and whatever some program takes for a line's end."""
    return [character for character in text if unicodedata.category(character) in _CONTROL]


def plain(text: str) -> str:
    """Return ``text``; raise ``ValueError`` if it is empty or contains control characters."""
    if not text or control_characters(text):
        raise ValueError(f"{text!r} is empty or contains control characters")
    return text


def _argument(text: str) -> str:
    if check_variables(plain(text)).startswith("-"):
        raise ValueError(f"{text!r} would be read as an option")
    return text


def _absolute(text: str) -> str:
    first = next(parts_of(_argument(text)))
    if not first.is_variable and not text.startswith(("/", "~/")):
        raise ValueError(f"{text!r} is not an absolute path; begin it with /, ~/ or a variable such as $HOME")
    return text


def _bind(text: str) -> str:
    if "," in _argument(text) or not 1 <= len(text.split(":")) <= 3:
        raise ValueError(f"{text!r} is not a bind; write source, source:destination or source:destination:ro")
    return text


Word = Annotated[str, matching(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,127}", "a name that Slurm knows", "gpu_long")]
Features = Annotated[
    str, matching(r"[A-Za-z0-9_.,&|*:+()\[\]-]{1,256}", "a list of node features", "a100&nvme, written without blanks")
]
Interface = Annotated[
    str, matching(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,14}", "a network interface", "ib0, as `ip link` shows it")
]
SshHost = Annotated[
    str,
    matching(
        r"([A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}@)?[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}",
        "a host for ssh",
        "ada@login.example.edu",
    ),
]
VariableName = Annotated[str, matching(r"[A-Za-z_][A-Za-z0-9_]{0,127}", "the name of a variable", "SITE_ROOT")]
Argument = Annotated[str, AfterValidator(_argument)]
PathText = Annotated[str, AfterValidator(_argument)]
AbsolutePath = Annotated[str, AfterValidator(_absolute)]
Bind = Annotated[str, AfterValidator(_bind)]
