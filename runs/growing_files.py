"""Reads files while another process appends to them: the lines since the last read, and the end of the file.

A file that is missing or cannot be read has nothing new.
"""

from __future__ import annotations

import codecs
import contextlib
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from saman.configs.regular_files import open_regular

LARGEST_READ = 1 << 20
MISSING_SECONDS = 0.5  # between two looks for a file that is to stay open and is not there yet
FLOOD_READ = 1 << 24  # at a look that keeps the newest lines only


class Follower:
    """Follows the lines appended to a file.

    Args:
        path: The file; it may appear later.
        newest_bytes: Begin so many bytes before the end of what is there now; ``None`` begins with the file. A line
            that is cut there is left out.
        begin: Begin after so many bytes of the file: the ``position`` of an earlier follower.
        reopen_seconds: Keep the file open, and look it up by name again after so long. 0 opens it at every look.
            A file that is kept open costs a shared file system next to nothing; NFS shows changes to it some
            seconds late.
    """

    def __init__(
        self, path: Path, newest_bytes: int | None = None, begin: int = 0, reopen_seconds: float = 0.0
    ) -> None:
        self.path = path
        self._reopen_seconds, self._opened = reopen_seconds, -math.inf
        self.found = False  # at the last look
        self._file: BinaryIO | None = None
        self._at = begin if newest_bytes is None else max(0, _size(path) - newest_bytes)
        self._rest = b""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._cut = bool(newest_bytes) and self._at > 0
        if self._cut:
            self._at -= 1  # its last byte may be the end of a line, so that nothing is cut

    def lines(self, flush: bool = False) -> list[str]:
        """Return the lines completed since the last look.

        Args:
            flush: Whether to return a last line without its end too.
        """
        *whole, self._rest = (self._rest + self._read()).split(b"\n")
        if flush and self._rest:
            whole, self._rest = [*whole, self._rest], b""
        if self._cut and whole:
            whole, self._cut = whole[1:], False
        return [line.decode(errors="replace").rstrip("\r") for line in whole]

    def raw_lines(self, flood: bool = False) -> list[bytes]:
        """Return the lines completed since the last look as they are; at a ``flood``, more of them at once."""
        data = self._rest + self._read(FLOOD_READ if flood else LARGEST_READ)
        end = data.rfind(b"\n") + 1
        self._rest = data[end:]
        return data[: end - 1].split(b"\n") if end else []

    @property
    def line_position(self) -> int:
        """The bytes of the file whose lines ``raw_lines`` has returned."""
        return self._at - len(self._rest)

    def newest_lines(self, most: int) -> tuple[list[str], int]:
        """Return the newest ``most`` lines completed since the last look, and the number of lines left out.

        The lines left out are counted, not decoded: a flood of them costs little more than reading the bytes.
        """
        data = self._rest + self._read(FLOOD_READ)
        end = data.rfind(b"\n") + 1
        whole, self._rest = data[:end], data[end:][-LARGEST_READ:]
        skipped = max(0, whole.count(b"\n") - most)
        kept = whole.split(b"\n")[-most - 1 : -1] if skipped <= most else _last_of(whole, most)
        return [line.decode(errors="replace").rstrip("\r") for line in kept], skipped

    @property
    def position(self) -> int:
        """The bytes of the file that ``pieces`` has returned; a character that is not complete yet does not count."""
        return self._at - len(self._decoder.getstate()[0])

    def pieces(self) -> Iterator[str]:
        """Yield everything appended since the last look, whether its line is complete or not, but whole characters."""
        while data := self._read():
            if text := self._decoder.decode(data):
                yield text

    def close(self) -> None:
        """Close the file, if it is kept open; the next look opens it again."""
        self._opened = -math.inf
        if self._file is not None:
            self._file.close()
            self._file = None

    def _read(self, most: int = LARGEST_READ) -> bytes:
        wait = self._reopen_seconds if self.found else min(self._reopen_seconds, MISSING_SECONDS)
        if self._file is None or time.monotonic() - self._opened >= wait:
            self._open(wait)
        if self._file is None:
            return b""
        with contextlib.suppress(OSError):
            if self._at > os.fstat(self._file.fileno()).st_size:  # a rotated log begins anew
                self._at, self._rest = 0, b""
            new = os.pread(self._file.fileno(), most, self._at)
            self._at += len(new)
            if not self._reopen_seconds:
                self.close()
            return new
        return b""

    def _open(self, wait: float) -> None:
        if time.monotonic() - self._opened < wait:
            return
        self.close()
        self._opened = time.monotonic()
        with contextlib.suppress(OSError):
            self._file = open_regular(self.path)
        self.found = self._file is not None


def text_from(path: Path, begin: int) -> str:
    """Return what was appended to a file after its first ``begin`` bytes."""
    return _bytes_from(path, begin).decode(errors="replace")


def last_text(path: Path, most_bytes: int) -> str:
    """Return the end of a file."""
    return text_from(path, max(0, _size(path) - most_bytes))


def last_lines(path: Path, lines: int = 20, most_bytes: int = 8192) -> tuple[str, ...]:
    """Return the last lines of a file as a terminal would show them, without blank ends.

    Args:
        path: The file; a missing file has no lines.
        lines: Number of lines at most.
        most_bytes: Bytes to read from the end of the file.
    """
    text = last_text(path, most_bytes).rstrip()
    # A progress bar rewrites its line by carriage returns: only what stayed visible counts.
    visible = [line.rstrip().rsplit("\r", 1)[-1] for line in text.split("\n")]
    return tuple(visible[-lines:]) if text else ()


def _last_of(whole: bytes, most: int) -> list[bytes]:
    """The last ``most`` lines of many; ``whole`` ends with a line's end."""
    begin = len(whole) - 1
    for _ in range(most):
        begin = whole.rfind(b"\n", 0, begin)
    return whole[begin + 1 : -1].split(b"\n")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _bytes_from(path: Path, begin: int, most: int = -1) -> bytes:
    try:
        with open_regular(path) as file:
            file.seek(begin)
            return file.read(most)
    except OSError:
        return b""
