"""TFRecord files with random access: an index of all records, built once; each record is checked when it is read.

A record is its length (uint64), the masked CRC-32C of the length, the data, and the masked CRC-32C of the data.
"""

from __future__ import annotations

import os
import struct
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from saman.trainers.data.interface import RandomAccess
from saman.trainers.data.readers.crc32c import masked_checksums
from saman.trainers.data.readers.damage import DamageList, DataDamage, OnCorrupt, from_numpy, require_files
from saman.trainers.data.readers.index import IndexWriter, cached_index
from saman.trainers.keras_compat import tf

_HEADER, _FOOTER = 12, 4
_HEADERS_AT_ONCE = 4096
_BYTES_AT_ONCE = 8 << 20
MOST_OPEN_FILES = 256


class RecentRecords:
    """The records that were read last, to find the record that TensorFlow could not parse."""

    def __init__(self) -> None:
        self._batches: deque[tuple[_RecordReader, np.ndarray]] = deque(maxlen=64)

    def note(self, reader: _RecordReader, positions: np.ndarray) -> None:
        """Note a batch."""
        self._batches.append((reader, positions))

    def __iter__(self) -> Iterator[tuple[str, str, bytes]]:
        """Yield the file, the place and the data of each record."""
        for reader, positions in list(self._batches):
            for position, data in zip(positions.tolist(), reader.read(positions), strict=True):
                yield *reader.place(position), data


def records(files: Sequence[Path], on_corrupt: OnCorrupt = "stop", recent: RecentRecords | None = None) -> RandomAccess:
    """Return the records of TFRecord files, in the order of the files, as ``tf.string``.

    Args:
        files: The files, not compressed.
        on_corrupt: ``stop`` ends the run at the first damaged record, when it is read; ``skip`` checks every record
            while the index is built, and leaves out what is damaged.
        recent: Receives the records that are read.

    Raises:
        UserError: A file is missing, damaged or compressed.
    """
    index = cached_index("tfrecord", files, {}, on_corrupt, lambda writer: _build(files, writer, on_corrupt == "skip"))
    reader = _RecordReader(files, index.arrays["file"], index.arrays["offset"], index.arrays["length"])

    def take(chosen: np.ndarray) -> list[np.ndarray]:
        if recent is not None:
            recent.note(reader, chosen)
        return [reader.read(chosen)]

    def read(positions: Any) -> Any:
        return from_numpy(take, positions, [tf.TensorSpec([], tf.string)])[0]

    return RandomAccess(
        len(index.arrays["offset"]), read, files=tuple(files), skipped=index.skipped, lost=index.skipped_examples
    )


class _RecordReader:
    """Reads and checks records by position; a bounded number of files stays open."""

    def __init__(self, files: Sequence[Path], file: np.ndarray, offset: np.ndarray, length: np.ndarray) -> None:
        self._files, self._file, self._offset, self._length = list(files), file, offset, length
        self._open: dict[int, int] = {}

    def read(self, positions: np.ndarray) -> np.ndarray:
        """Return object[n]: the bytes of the records."""
        files, offsets, lengths = (part[positions] for part in (self._file, self._offset, self._length))
        found: list[bytes] = [b""] * len(positions)
        for place in np.lexsort((offsets, files)).tolist():  # in the order of the disk
            file, offset, length = int(files[place]), int(offsets[place]), int(lengths[place])
            found[place] = self._bytes(file, offset, length + _FOOTER)
        data = np.empty(len(found), object)
        data[:] = [record[:-_FOOTER] for record in found]
        stored = np.frombuffer(b"".join(record[-_FOOTER:] for record in found), "<u4")
        wrong = np.flatnonzero(masked_checksums(data.tolist()) != stored)
        if len(wrong):
            path, where = self.place(int(positions[wrong[0]]))
            raise DataDamage(path, "the checksum of a record is wrong", where).error()
        return data

    def place(self, position: int) -> tuple[str, str]:
        """Return the file of a record, and its place there for messages."""
        return str(self._files[self._file[position]]), f"byte {self._offset[position] - _HEADER}, record {position}"

    def _bytes(self, file: int, offset: int, count: int) -> bytes:
        path = self._files[file]
        opened = self._open.get(file)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC) if opened is None else opened
            try:
                data = os.pread(descriptor, count, offset)
            finally:
                if opened is None:
                    self._keep(file, descriptor)
        except OSError as error:
            problem = f"this file cannot be read: {error.strerror}"
            raise DataDamage(str(path), problem, f"byte {offset - _HEADER}").error() from error
        if len(data) < count:
            raise DataDamage(str(path), "this file became shorter during the run", f"byte {offset - _HEADER}").error()
        return data

    def _keep(self, file: int, descriptor: int) -> None:
        """Keep a file open, or close it: no other call may use a descriptor that is closed here."""
        if len(self._open) >= MOST_OPEN_FILES or self._open.setdefault(file, descriptor) != descriptor:
            os.close(descriptor)


def _build(files: Sequence[Path], writer: IndexWriter, check_data: bool) -> None:
    """Write the arrays ``file``, ``offset`` (of the data) and ``length`` of all records."""
    writer.append("file", np.zeros(0, np.uint32))
    for name in ("offset", "length"):
        writer.append(name, np.zeros(0, np.int64))
    sound = set(require_files(files, writer.damages))
    for number, path in enumerate(files):
        if path in sound:
            try:
                _index_file(number, path, writer, check_data)
            except OSError as error:
                writer.damages.add(DataDamage(str(path), f"this file cannot be read: {error.strerror}"))


def _index_file(number: int, path: Path, writer: IndexWriter, check_data: bool) -> None:
    size, offset = path.stat().st_size, 0
    with path.open("rb") as file:
        while offset < size:
            headers: list[bytes] = []
            offsets: list[int] = []
            while offset < size and len(headers) < _HEADERS_AT_ONCE:
                file.seek(offset)
                headers.append(file.read(_HEADER))
                offsets.append(offset + _HEADER)
                # A damaged length may lead anywhere: the check below ends the file there.
                offset += _HEADER + _FOOTER + (int.from_bytes(headers[-1][:8], "little") if len(headers[-1]) > 7 else 0)
            lengths, problem = _check_headers(headers, offsets, size)
            starts = np.array(offsets[: len(lengths)], np.int64)
            good = _sound_data(path, starts, lengths, writer.damages) if check_data else slice(None)
            writer.append("offset", starts[good])
            writer.append("length", lengths[good])
            writer.append("file", np.full(len(starts[good]), number, np.uint32))
            if problem:
                where = f"byte {offsets[len(lengths)] - _HEADER}"
                if offsets[len(lengths)] == _HEADER and headers[0][:2] == b"\x1f\x8b":
                    problem = "this file is compressed; random access needs plain TFRecord files"
                writer.damages.add(DataDamage(str(path), problem, where))
                return


def _check_headers(headers: Sequence[bytes], offsets: Sequence[int], size: int) -> tuple[np.ndarray, str]:
    """Return the lengths of the sound records before the first damage, and what is wrong there."""
    whole = [header for header in headers if len(header) == _HEADER]
    table = np.frombuffer(b"".join(whole), np.dtype([("length", "<u8"), ("crc", "<u4")]))
    wrong = masked_checksums([header[:8] for header in whole]) != table["crc"]
    ends = np.array(offsets[: len(whole)], np.float64) + table["length"] + _FOOTER
    bad = np.flatnonzero(wrong | (ends > size))
    first = int(bad[0]) if len(bad) else len(whole)
    lengths = table["length"][:first].astype(np.int64)
    if first == len(headers):
        return lengths, ""
    if first < len(whole) and wrong[first]:
        return lengths, "the checksum of a record's length is wrong; the records after it cannot be found"
    return lengths, "the file ends in the middle of a record"


def _sound_data(path: Path, offsets: np.ndarray, lengths: np.ndarray, damages: DamageList) -> np.ndarray:
    """Return bool[n]: whether the data of each record agree with their checksum."""
    good = np.ones(len(offsets), bool)
    with path.open("rb") as file:
        batch, first, held = [], 0, 0
        for place, (offset, length) in enumerate(zip(offsets.tolist(), lengths.tolist(), strict=True)):
            file.seek(offset)
            batch.append(file.read(length + _FOOTER))
            held += length
            if held > _BYTES_AT_ONCE or place == len(offsets) - 1:
                found = masked_checksums([record[:-_FOOTER] for record in batch])
                stored = [struct.unpack("<I", record[-_FOOTER:])[0] for record in batch]
                good[first : place + 1] = found == np.array(stored, np.uint32)
                batch, first, held = [], place + 1, 0
    for wrong in np.flatnonzero(~good):
        where = f"byte {offsets[wrong] - _HEADER}"
        damages.add(DataDamage(str(path), "the checksum of a record is wrong", where))
    return good
