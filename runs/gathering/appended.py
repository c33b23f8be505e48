"""Appends what the ranks of a node wrote to a file of the run folder.

Each block is written at a known offset, and the progress is then recorded in the node's private folder. A successor
after a crash writes the last block again at the same offset, so nothing is lost or duplicated.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from saman.configs.regular_files import open_regular
from saman.runs.files.holes import free_begin
from saman.runs.files.whole import read_json, write_json
from saman.runs.records.schema import integer, mapping

LARGEST_READ = 4 << 20  # of a rank's file per round
FREE_BYTES = 1 << 20  # of a rank's file, gathered before their space is freed
KEPT_BYTES = 1 << 16  # of the gathered part are not freed: they hold the last lines of a failed rank


@dataclass
class Gathered:
    """The progress of gathering: bytes taken from each rank's file, and bytes of the file in the run folder."""

    taken: dict[str, int] = field(default_factory=dict)
    written: int | None = None

    @classmethod
    def read(cls, path: Path) -> Gathered:
        """Read the progress that an earlier gatherer recorded; empty without a record."""
        value = mapping(read_json(path))
        taken = {name: number for name, item in mapping(value.get("taken")).items() if (number := integer(item))}
        return cls(taken, integer(value.get("written")))

    def write(self, path: Path) -> None:
        """Record the progress."""
        write_json(path, {"schema": 1, "taken": self.taken, "written": self.written})


class AppendedFile:
    """The file in the run folder that receives the blocks; it stays open. Raises ``OSError``."""

    def __init__(self, path: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        self._descriptor = os.open(path, flags, 0o644)

    @property
    def size(self) -> int:
        """The size of the file."""
        return os.fstat(self._descriptor).st_size

    def put(self, block: bytes, at: int) -> None:
        """Write a whole block; it has reached the file server when this returns. Raises ``OSError``."""
        done = 0
        while done < len(block):
            count = os.pwrite(self._descriptor, block[done:], at + done)
            if count <= 0:
                raise OSError("no space is left for the whole block")
            done += count
        os.fdatasync(self._descriptor)

    def cut(self) -> None:
        """Empty the file."""
        os.ftruncate(self._descriptor, 0)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def new_bytes(path: Path, taken: int) -> bytes:
    """Read what follows the first ``taken`` bytes of a rank's file, at most ``LARGEST_READ`` bytes."""
    try:
        if path.stat().st_size <= taken:
            return b""
        with open_regular(path) as file:
            file.seek(taken)
            return file.read(LARGEST_READ)
    except OSError:
        return b""


def free_gathered(paths: Mapping[str, Path], before: Mapping[str, int], after: Mapping[str, int]) -> None:
    """Free the space of gathered bytes, whenever another ``FREE_BYTES`` of a file have been gathered."""
    for name, path in paths.items():
        end = after.get(name, 0)
        if end // FREE_BYTES > before.get(name, 0) // FREE_BYTES:
            with contextlib.suppress(OSError):
                free_begin(path, max(0, end - KEPT_BYTES))
