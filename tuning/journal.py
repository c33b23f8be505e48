"""The journal of a study's trials, as Optuna's storage: JSON lines that a killed process may have left torn.

Optuna's own file backend glues the next entry to a torn line, after which nobody can read the journal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from saman.configs.regular_files import open_regular
from saman.runs import locks
from saman.runs.files.disk import sync_path
from saman.runs.files.whole import append_line, parse_json

LOCK_SECONDS = 120.0
MOST_LINE_BYTES = 1 << 22  # of an entry; more is damage, as is a file of zeros


class DamagedJournalError(Exception):
    """An entry that no process of saman has written."""


class Journal:
    """A backend of Optuna's ``JournalStorage``. Its lock ends with the process that holds it."""

    def __init__(self, path: Path, lock: Path) -> None:
        self._path, self._lock = path, lock
        self._offsets = [0]  # of entries, in bytes; the last is where the next entry begins
        if path.is_symlink():  # nobody appends to a file elsewhere
            raise DamagedJournalError("a link is in its place")
        path.touch(mode=0o644)  # never writable by a group, whatever the umask

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Yield the entries from a number on; torn lines have none.

        Raises:
            DamagedJournalError: A line is whole, but no entry.
            OSError: The file cannot be read.
        """
        number = min(log_number_from, len(self._offsets) - 1)
        with open_regular(self._path) as file:
            file.seek(self._offsets[number])
            for line in _whole_lines(file):
                entry = _entry(line)
                if entry is None:
                    continue
                number += 1
                if number == len(self._offsets):
                    self._offsets.append(file.tell())
                if number > log_number_from:
                    yield entry

    def append_logs(self, logs: Sequence[dict[str, Any]]) -> None:
        """Append entries, and wait until they are on the disk. Raises ``OSError`` if they are not."""
        with locks.hold(self._lock, wait_seconds=LOCK_SECONDS):
            for entry in logs:
                append_line(self._path, entry)
            sync_path(self._path)


def _whole_lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield lines up to one that is still being written."""
    while line := file.readline(MOST_LINE_BYTES):
        if line.endswith(b"\n"):
            yield line
        elif len(line) == MOST_LINE_BYTES:
            raise DamagedJournalError(f"a line is longer than {MOST_LINE_BYTES >> 20} MiB")
        else:
            return


def _entry(line: bytes) -> dict[str, Any] | None:
    """Return the entry of a line; ``None`` for a torn line, which its writer was killed before it ended."""
    try:
        found = parse_json(line)
    except ValueError:
        if not line.strip() or (line.startswith(b"{") and not line.rstrip().endswith(b"}")):
            return None
        raise DamagedJournalError(f"{_shown(line)} is no JSON") from None
    if not (isinstance(found, dict) and isinstance(found.get("op_code"), int) and "worker_id" in found):
        raise DamagedJournalError(f"{_shown(line)} is no entry of a journal")
    return found


def _shown(line: bytes) -> str:
    return repr(line[:60].decode(errors="replace"))
