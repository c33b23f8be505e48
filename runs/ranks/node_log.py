"""The log of a node: what its ranks print, in one file. Each line begins with the first rank of its process.

``3| text`` is a whole line, ``3+ text`` a part of a line that had no end yet, and ``*| text`` a remark of saman's.
Without these marks the lines of a rank are, byte for byte, what it printed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from saman.runs.growing_files import Follower

ALL = "*"
_LINE = re.compile(rb"([0-9]{1,9}|\*)([|+]) ")


@dataclass(frozen=True)
class LogEntry:
    """A line of a node's log: the first rank of its process (``None`` for all), its text, and whether it is whole."""

    rank: int | None
    text: bytes
    whole: bool

    @property
    def printed(self) -> bytes:
        """The bytes that were printed."""
        return self.text + b"\n" if self.whole else self.text

    @classmethod
    def parse(cls, line: bytes) -> LogEntry | None:
        """Read an entry of a node's log without its end; ``None`` if it is damaged."""
        found = _LINE.match(line)
        if found is None:
            return None
        rank = None if found[1] == ALL.encode() else int(found[1])
        return cls(rank, line[found.end() :], found[2] == b"|")


def marked(rank: int | str, printed: bytes) -> bytes:
    """Return what a process printed as lines of its node's log.

    >>> marked(3, b"one\\ntwo")
    b'3| one\\n3+ two\\n'
    """
    if not printed:
        return b""
    *whole, rest = printed.split(b"\n")
    lines = [b"%s| %s\n" % (str(rank).encode(), line) for line in whole]
    return b"".join([*lines, b"%s+ %s\n" % (str(rank).encode(), rest)] if rest else lines)


class RankLogFollower:
    """Follows what a rank prints, in its node's log; ``rank`` is the first rank of its process."""

    def __init__(self, path: Path, rank: int, begin: int = 0) -> None:
        self.path, self._rank = path, rank
        self._follower = Follower(path, begin=begin)

    @property
    def position(self) -> int:
        """The bytes of the node's log that ``pieces`` has read."""
        return self._follower.line_position

    def pieces(self) -> Iterator[str]:
        """Yield what the rank printed into its node's log since the last look."""
        while lines := self._follower.raw_lines():
            if text := b"".join(_printed(lines, self._rank)).decode(errors="replace"):
                yield text


class NodeLogFollower:
    """Follows the newest lines of some ranks in the log of their node.

    Args:
        path: The log.
        ranks: The ranks, by the first rank of their process.
        reopen_seconds: As for ``Follower``.
    """

    def __init__(self, path: Path, ranks: Collection[int], reopen_seconds: float = 0.0) -> None:
        self._ranks = frozenset(ranks)
        self._follower = Follower(path, reopen_seconds=reopen_seconds)
        self._rest: dict[int, bytes] = {}

    def newest_lines(self, most: int) -> tuple[list[tuple[int, str]], Counter[int]]:
        """Return the newest ``most`` lines completed since the last look, and the number of lines left out by rank."""
        found: list[tuple[int, bytes]] = []
        for entry in filter(None, map(LogEntry.parse, self._follower.raw_lines(flood=True))):
            if entry.rank is None or entry.rank not in self._ranks:
                continue
            text = self._rest.pop(entry.rank, b"") + entry.text
            if entry.whole:
                found.append((entry.rank, text))
            else:
                self._rest[entry.rank] = text
        left_out = Counter(rank for rank, _ in found[:-most])
        return [(rank, text.decode(errors="replace").rstrip("\r")) for rank, text in found[-most:]], left_out

    def unfinished(self) -> list[tuple[int, str]]:
        """Return the last lines that have no end."""
        rest, self._rest = self._rest, {}
        return [(rank, text.decode(errors="replace")) for rank, text in rest.items()]

    @property
    def found(self) -> bool:
        """Whether the log was there at the last look."""
        return self._follower.found

    def close(self) -> None:
        """Close the file; the next look opens it again."""
        self._follower.close()


def _printed(lines: Iterable[bytes], rank: int) -> Iterator[bytes]:
    for entry in filter(None, map(LogEntry.parse, lines)):
        if entry.rank is None or entry.rank == rank:
            yield entry.printed
