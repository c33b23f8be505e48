"""Expands and writes Slurm's host lists, such as ``r[1-2]n[01-02],login``, in Slurm's order, without Slurm. Pure."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator

from saman.configs.errors import UserError

LARGEST = 65_536  # names in one list; Slurm's own limit (MAX_SLURM_NODES)
_PIECE = re.compile(r"\[([^\[\]]*)\]|([^\[\],]+)")
_LAST_NUMBER = re.compile(r"(.*?)([0-9]{1,18})")  # Slurm 22.05 refuses text behind a bracket
_RANGE = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?")


def expand(text: str) -> list[str]:
    """The host names of a host list, in order; an empty text is an empty list.

    With several brackets the last bracket varies fastest. Leading zeros of a range's first number set the width:
    ``[08-11]`` is 08 09 10 11. Raises ``UserError`` for a text that Slurm would not write.

    >>> expand("r[1-2]n[08-09],login")
    ['r1n08', 'r1n09', 'r2n08', 'r2n09', 'login']
    """
    names = list(itertools.islice((name for part in _parts(text) for name in _names(part, text)), LARGEST + 1))
    if len(names) > LARGEST:
        raise _wrong(text, f"has more than {LARGEST} hosts")
    return names


def compress(names: Iterable[str]) -> str:
    """The host list of these names, in their order: neighbours that end in different numbers share a bracket.

    ``expand`` returns the names again.

    >>> compress(["r1n08", "r1n09", "r1n10", "r1n7", "login"])
    'r1n[08-10,7],login'
    """
    groups: list[tuple[str, list[str]]] = []
    for name in names:
        found = _LAST_NUMBER.fullmatch(name)
        before, number = (found[1], found[2]) if found else (name, "")
        if number and groups and groups[-1][0] == before and groups[-1][1][0]:
            groups[-1][1].append(number)
        else:
            groups.append((before, [number]))
    return ",".join(
        before + (numbers[0] if len(numbers) == 1 else f"[{_ranges(numbers)}]") for before, numbers in groups
    )


def _ranges(numbers: list[str]) -> str:
    """``08 09 10 7`` as ``08-10,7``; the numbers of a range have the width of its first."""
    runs: list[tuple[str, str]] = []
    for number in numbers:
        follows = runs and int(number) == int(runs[-1][1]) + 1 and number == str(int(number)).zfill(len(runs[-1][0]))
        if follows:
            runs[-1] = runs[-1][0], number
        else:
            runs.append((number, number))
    return ",".join(first if first == last else f"{first}-{last}" for first, last in runs)


def _parts(text: str) -> Iterator[str]:
    """The parts between commas outside brackets."""
    depth, start = 0, 0
    for index, character in enumerate(text):
        depth += (character == "[") - (character == "]")
        if depth not in (0, 1):
            raise _wrong(text, "has unbalanced brackets")
        if character == "," and depth == 0:
            yield text[start:index]
            start = index + 1
    if depth:
        raise _wrong(text, "has an unclosed bracket")
    if text:
        yield text[start:]


def _names(part: str, text: str) -> Iterator[str]:
    if not part or any(character.isspace() for character in part):
        raise _wrong(text, f"contains {part!r}, which is not a host name")
    choices = [_numbers(inside, text) if plain == "" else [plain] for inside, plain in _PIECE.findall(part)]
    for pieces in itertools.product(*choices):
        yield "".join(pieces)


def _numbers(inside: str, text: str) -> list[str]:
    """``01-03,7`` as ``01 02 03 7``."""
    numbers: list[str] = []
    for item in inside.split(","):
        match = _RANGE.fullmatch(item)
        if match is None:
            raise _wrong(text, f"contains [{inside}], which is not a list of numbers and ranges")
        first, last = match[1], match[2] or match[1]
        if int(last) < int(first) or int(last) - int(first) >= LARGEST or len(numbers) > LARGEST:
            raise _wrong(text, f"contains the range {item}, which runs backwards or is longer than {LARGEST}")
        numbers += [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    return numbers


def _wrong(text: str, problem: str) -> UserError:
    shown = text if len(text) <= 80 else text[:77] + "..."
    return UserError(f"the host list {shown!r} {problem}", remedy="a list as Slurm writes it, such as r[1-2]n[01-04]")
