"""A file that one process rewrites in place while others read it: no renames, and never a half-written value.

The file holds pairs of slots, each pair four times as large as the one before. A value goes to a slot that does not
hold the newest value, so a writer that is killed leaves the value before. A rewrite opens, creates and renames nothing:
on a shared file system it costs no metadata operation, however often it happens.
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_HEADER = struct.Struct("<8sQQI")  # magic, number of the value, its length, its checksum
_MAGIC = b"samanSL1"
_FIRST = 4096  # bytes of a slot of the first pair
_GROWTH = 4
_MOST_PAIRS = 7  # 4 KiB to 16 MiB: a forged file must not exhaust its reader


@dataclass(frozen=True)
class _Slot:
    offset: int
    bytes: int

    @property
    def room(self) -> int:
        return self.bytes - _HEADER.size


@dataclass(frozen=True)
class Stored:
    """A value and its number; later values have higher numbers."""

    number: int
    value: bytes


def _slots() -> Iterator[_Slot]:
    offset, size = 0, _FIRST
    for _ in range(_MOST_PAIRS):
        for _ in range(2):
            yield _Slot(offset, size)
            offset += size
        size *= _GROWTH


class SlotFile:
    """The writer of a file of slots; continues what an earlier writer left. Only one may write at a time.

    Raises ``OSError`` if the file cannot be opened, or is no regular file.
    """

    def __init__(self, path: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        self._descriptor = os.open(path, flags, 0o644)
        try:
            if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
                raise OSError(f"{path} is no regular file")
            found = _newest(self._descriptor, 0)
        except BaseException:
            os.close(self._descriptor)
            raise
        self._number = found[0].number if found else 0
        self._at: _Slot | None = found[1] if found else None

    def write(self, value: bytes) -> None:
        """Replace the value; it has reached the file server when this returns. Raises ``OSError``."""
        slot = next(slot for slot in _slots() if slot.room >= len(value) and slot != self._at)
        number = self._number + 1
        data = _HEADER.pack(_MAGIC, number, len(value), _checksum(number, value)) + value
        if os.pwrite(self._descriptor, data, slot.offset) != len(data):
            raise OSError("no space is left for the whole value")
        os.fdatasync(self._descriptor)  # else NFS keeps it in this node's memory for up to 30 s
        self._number, self._at = number, slot

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def read_newest(descriptor: int, after: int = 0) -> Stored | None:
    """Read the newest whole value of an open file of slots; ``None`` if its number is not above ``after``."""
    found = _newest(descriptor, after)
    return found[0] if found else None


def _newest(descriptor: int, after: int) -> tuple[Stored, _Slot] | None:
    for number, length, checksum, slot in sorted(_headers(descriptor), key=lambda header: -header[0]):
        if number <= after:
            return None
        value = os.pread(descriptor, length, slot.offset + _HEADER.size)
        if len(value) == length and _checksum(number, value) == checksum:
            return Stored(number, value), slot
    return None


def _headers(descriptor: int) -> Iterator[tuple[int, int, int, _Slot]]:
    for slot in _slots():
        data = os.pread(descriptor, _HEADER.size, slot.offset)
        if len(data) < _HEADER.size:
            if slot.offset == 0:  # an unfinished first slot; the second may be whole
                continue
            return
        magic, number, length, checksum = _HEADER.unpack(data)
        if magic == _MAGIC and 0 < length <= slot.room:
            yield number, length, checksum, slot


def _checksum(number: int, value: bytes) -> int:
    return zlib.crc32(value, number & 0xFFFFFFFF)
