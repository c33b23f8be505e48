"""Reads what is appended to files while a run goes on, whole lines only."""

from __future__ import annotations

from pathlib import Path

LARGEST_READ = 1 << 20


class Follower:
    """The new lines of one file since the last look; a file that is not there yet has none."""

    def __init__(self, path: Path, at_end: bool = False) -> None:
        self.path = path
        self._at = path.stat().st_size if at_end and path.exists() else 0
        self._rest = b""

    def lines(self, flush: bool = False) -> list[str]:
        """Lines completed since the last call; with ``flush`` also a last one without its end."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._at)
                new = file.read(LARGEST_READ)
        except OSError:
            new = b""
        self._at += len(new)
        *whole, self._rest = (self._rest + new).split(b"\n")
        if flush and self._rest:
            whole, self._rest = [*whole, self._rest], b""
        return [line.decode(errors="replace").rstrip("\r") for line in whole]
