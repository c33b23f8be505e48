"""Applies a unified diff to texts, exactly: every line that a hunk keeps or removes must stand where it says. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+\d+(?:,\d+)? @@")


class DiffMismatchError(Exception):
    """A hunk that does not fit its file."""


@dataclass(frozen=True)
class Hunk:
    """A changed place: the number of its first line (1 for the first) in the old file, the old and the new lines."""

    start: int
    old: tuple[str, ...]
    new: tuple[str, ...]


def read_diff(text: str) -> dict[str, list[Hunk]]:
    """The hunks of a unified diff by file, in order; the leading ``b/`` of a path is left out.

    Args:
        text: the diff, of changed files only; lines before the first ``---`` are comments.
    """
    files: dict[str, list[Hunk]] = {}
    lines = text.splitlines()
    hunks: list[Hunk] = []
    number = 0
    while number < len(lines):
        line = lines[number]
        if line.startswith("+++ b/"):
            hunks = files.setdefault(line.removeprefix("+++ b/"), [])
        elif found := _HUNK.match(line):
            hunk = _read_hunk(int(found[1]), int(found[2] or 1), lines[number + 1 :])
            hunks.append(hunk)
        number += 1
    return files


def _read_hunk(start: int, old_count: int, lines: list[str]) -> Hunk:
    old: list[str] = []
    new: list[str] = []
    for line in lines:
        if line.startswith("\\"):  # no newline at the end of the file
            continue
        ended = len(old) == old_count and not line.startswith("+")
        if ended or line.startswith(("diff ", "@@ ")):
            break
        if not line.startswith("+"):
            old.append(line[1:])
        if not line.startswith("-"):
            new.append(line[1:])
    return Hunk(start, tuple(old), tuple(new))


def apply_hunks(text: str, hunks: list[Hunk]) -> str:
    """``text`` with the hunks of one file applied.

    Raises:
        DiffMismatchError: A hunk expects other lines.
    """
    lines = text.splitlines()
    shift = 0
    for hunk in hunks:
        begin = hunk.start - 1 + shift
        end = begin + len(hunk.old)
        if tuple(lines[begin:end]) != hunk.old:
            raise DiffMismatchError(f"line {hunk.start}")
        lines[begin:end] = hunk.new
        shift += len(hunk.new) - len(hunk.old)
    return "\n".join(lines) + "\n"


def apply_diff(texts: Mapping[str, str], diff: str) -> dict[str, str]:
    """The changed files of ``texts``, by path.

    Raises:
        DiffMismatchError: The diff names a file that is not there, or a hunk does not fit.
    """
    changed = {}
    for path, hunks in read_diff(diff).items():
        if path not in texts:
            raise DiffMismatchError(f"{path}: no such file")
        try:
            changed[path] = apply_hunks(texts[path], hunks)
        except DiffMismatchError as error:
            raise DiffMismatchError(f"{path}, {error}") from None
    return changed
