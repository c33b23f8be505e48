"""Gathers what the ranks of a node print in one log of at most ``launch.log_limit`` times the number of processes.

When a process has filled half of its share, the log is merged into the older part. Each process keeps its newest
lines, so a process that floods its log displaces no line of the others.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from saman.configs.regular_files import open_regular
from saman.runs.gathering.appended import LARGEST_READ, AppendedFile, Gathered, free_gathered, new_bytes
from saman.runs.gathering.node_folder import progress_file
from saman.runs.paths.attempt import Attempt
from saman.runs.paths.names import is_number, names_in
from saman.runs.ranks.node_log import ALL, LogEntry, marked

KIND = "log"
BLOCKS_OF_ROUND = 2
MOST_BLOCKS = 40  # of a complete round: half of the default limit, more than any process can be behind


class LogGathering:
    """Appends what the ranks of a node print to the node's log, which is created with the first line.

    Args:
        own: The node's private folder.
        target: The log of the node.
        older: Its older part.
        limit_bytes: Largest size of a process's lines in both; ``None`` without a limit.
    """

    def __init__(self, own: Attempt, target: Path, older: Path, limit_bytes: int | None) -> None:
        self._own, self._target, self._older, self._limit = own, target, older, limit_bytes
        self._gathered = Gathered.read(progress_file(own, KIND))
        self._file: AppendedFile | None = None
        self._sizes: Counter[int] | None = None  # of the log, by rank

    def gather(self, everything: bool = True) -> None:
        """Append what is new. Raises ``OSError``; a later call then repeats it.

        Args:
            everything: Copy all of it, without the limit of a round, which keeps a flood from delaying heartbeats.
        """
        for _ in range(MOST_BLOCKS if everything else BLOCKS_OF_ROUND):
            if not self._gather_block():
                return

    def _gather_block(self) -> bool:
        """Append the next part; returns whether there may be more."""
        folder, before = self._own.rank_folder, self._gathered.taken
        paths = {name: folder / name for name in sorted(names_in(folder)) if _is_log(name)}
        blocks: dict[int, bytes] = {}
        taken = dict(before)
        for name, path in paths.items():
            blocks[_rank(name)], taken[name] = self._new_lines(path, before.get(name, 0))
        data = b"".join(blocks.values())
        if taken == before:
            return False
        file = self._opened()
        written = self._gathered.written
        # A log that is shorter than recorded was emptied by a gatherer that died before it could record that.
        at = file.size if written is None else min(written, file.size)
        file.put(data, at)
        self._note(Gathered(taken, at + len(data)))
        free_gathered(paths, before, taken)
        self._rotate_if_full({rank: len(block) for rank, block in blocks.items()})
        return any(end - before.get(name, 0) >= LARGEST_READ for name, end in taken.items())

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _new_lines(self, path: Path, taken: int) -> tuple[bytes, int]:
        """Return the new lines of a process, and the offset in its log after them."""
        rank, dropped = _rank(path.name), b""
        with contextlib.suppress(OSError):
            behind = path.stat().st_size - taken
            if self._limit is not None and behind > self._limit // 2:  # it prints faster than the file system writes
                taken += behind - self._limit // 4
                text = f"[saman: {_size_text(behind - self._limit // 4)} of rank {rank} are left out here: it prints "
                dropped = marked(ALL, f"{text}faster than the log can be written (launch.log_limit)]\n".encode())
        new = _whole_characters(new_bytes(path, taken))
        return dropped + marked(rank, new), taken + len(new)

    def _opened(self) -> AppendedFile:
        if self._file is None:
            self._file = AppendedFile(self._target)
        if self._sizes is None:
            self._sizes = _sizes(self._target) if self._gathered.written else Counter()
        return self._file

    def _note(self, gathered: Gathered) -> None:
        gathered.write(progress_file(self._own, KIND))
        self._gathered = gathered

    def _rotate_if_full(self, more: dict[int, int]) -> None:
        assert self._sizes is not None and self._file is not None
        self._sizes.update(more)
        if self._limit is None or max(self._sizes.values(), default=0) <= self._limit // 2:
            return
        dropped = join_parts(self._older, self._target, self._limit // 2)
        self._file.cut()
        fate = "and older lines were dropped" if dropped else "and nothing was dropped"
        reached = f"a rank reached launch.log_limit ({_size_text(self._limit)})"
        note = marked(ALL, f"[saman: {reached}; the lines before are in {self._older.name}, {fate}]\n".encode())
        self._file.put(note, 0)
        self._note(Gathered(self._gathered.taken, len(note)))
        self._sizes = Counter()


def join_parts(older: Path, newer: Path, share_bytes: int) -> bool:
    """Merge two parts of a node's gathered log into the older part; returns whether lines were dropped.

    Args:
        older: The older part, which is replaced.
        newer: The newer part, which is unchanged.
        share_bytes: Largest size of the lines of a process; its newest lines stay.
    """
    sizes = _sizes(older) + _sizes(newer)
    surplus = Counter({rank: size - share_bytes for rank, size in sizes.items() if size > share_bytes})
    dropped = bool(surplus)
    temporary = older.with_name(f".{older.name}.tmp")
    with temporary.open("wb") as file:
        for part in (older, newer):
            for rank, line in _lines(part):
                if surplus[rank] > 0:
                    surplus[rank] -= len(line)
                elif rank >= 0:
                    file.write(line)
    temporary.replace(older)
    return dropped


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Each whole line of a node's log with its rank; -1 for remarks and damaged lines."""
    with contextlib.suppress(OSError), open_regular(path) as file:
        for line in file:
            entry = LogEntry.parse(line)
            yield (-1 if entry is None or entry.rank is None else entry.rank), line


def _sizes(path: Path) -> Counter[int]:
    sizes: Counter[int] = Counter()
    for rank, line in _lines(path):
        if rank >= 0:
            sizes[rank] += len(line)
    return sizes


def _whole_characters(data: bytes) -> bytes:
    """The data without an incomplete UTF-8 character at its end."""
    for length in range(1, min(4, len(data)) + 1):
        byte = data[-length]
        if byte & 0xC0 == 0xC0:  # the first byte of a character of 2 to 4 bytes
            wanted = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return data if length >= wanted else data[:-length]
        if byte < 0x80:
            return data
    return data


def _size_text(size: int) -> str:
    from saman.configs.units import format_bytes  # loads what checks configurations: a wrapper does without it

    return format_bytes(size)


def _is_log(name: str) -> bool:
    return name.endswith(".log") and is_number(name.removesuffix(".log"))


def _rank(name: str) -> int:
    return int(name.removesuffix(".log"))
