"""What the supervisor of an attempt tells all its nodes: a file that stays open, so that nobody looks it up by name."""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from saman.configs.regular_files import open_regular
from saman.runs.files.slots import SlotFile, read_newest
from saman.runs.files.whole import parse_json
from saman.runs.records.schema import mapping

# A reader opens the file again, because NFS shows changes at once only to those who open it.
REOPEN_SECONDS = 2.0
OPENS_PER_SECOND = 4  # of all nodes together


@dataclass(frozen=True)
class Announcement:
    """What holds for all ranks: whether they are to stop, and whether all of them have ended."""

    stop: bool = False
    all_ended: bool = False


class BoardWriter:
    """Writes announcements; a change is written once."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        self._file = SlotFile(path)
        self._shown: Announcement | None = None

    def show(self, announcement: Announcement) -> None:
        """Show an announcement, if it differs from the last. Raises ``OSError``."""
        if announcement != self._shown:
            self._file.write(json.dumps({"schema": 1, **asdict(announcement)}).encode())
            self._shown = announcement

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class BoardReader:
    """Reads announcements; calls between two openings of the file cost no metadata operation.

    Args:
        path: The board.
        nodes: The number of nodes that read it; a process per node reads.
    """

    def __init__(self, path: Path, nodes: int) -> None:
        self._path, self._every = path, max(REOPEN_SECONDS, nodes / OPENS_PER_SECOND)
        self._descriptor: int | None = None
        self._opened = -self._every
        self._newest, self._number = Announcement(), 0

    @property
    def exists(self) -> bool:
        """Whether a supervisor keeps the board; without it, ranks look for requests themselves."""
        return self._descriptor is not None

    def read(self) -> Announcement:
        """The newest announcement."""
        if time.monotonic() - self._opened >= self._every:
            self._open()
        if self._descriptor is not None:
            with contextlib.suppress(OSError, ValueError):
                stored = read_newest(self._descriptor, self._number)
                if stored is not None:
                    value = mapping(parse_json(stored.value))
                    self._newest = Announcement(bool(value.get("stop")), bool(value.get("all_ended")))
                    self._number = stored.number
        return self._newest

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> None:
        self._opened = time.monotonic()
        with contextlib.suppress(OSError), open_regular(self._path) as file:
            newer = os.dup(file.fileno())
            self.close()
            self._descriptor = newer
