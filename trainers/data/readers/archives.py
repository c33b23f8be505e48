"""``.npz`` archives with random access: unpacked once into the cache, piece by piece, without pickles."""

from __future__ import annotations

import contextlib
import math
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.lib import format as npy

from saman.configs.errors import EnvironmentLack, UserError
from saman.configs.units import format_bytes
from saman.runs import variables
from saman.trainers.data.interface import RandomAccess
from saman.trainers.data.readers.array_files import check_lengths, require_numbers, rows_of
from saman.trainers.data.readers.damage import (
    PARSER_FAILURES,
    DamageList,
    DataDamage,
    OnCorrupt,
    reason_of,
    require_files,
)
from saman.trainers.data.readers.index import IndexWriter, cached_index

_BYTES_AT_ONCE = 64 << 20
_MOST_NAMED = 20  # arrays in a message


def archive_rows(path: Path, names: Sequence[str], on_corrupt: OnCorrupt = "stop") -> RandomAccess:
    """Return the named arrays of a ``.npz`` file as examples; they are unpacked once, into the cache.

    Raises:
        UserError: The file is damaged, lacks an array, or holds Python objects.
        EnvironmentLack: The cache has no room for the arrays.
    """

    def build(writer: IndexWriter) -> None:
        require_files([path], DamageList("stop"))
        _require_room(path, writer.folder, sum(_size(path, name) for name in names))
        for number, name in enumerate(names):
            for rows in _pieces(path, name):
                writer.append(_file(number), rows)

    index = cached_index("npz", [path], {"arrays": list(names)}, on_corrupt, build)
    arrays = [index.arrays[_file(number)] for number in range(len(names))]
    check_lengths(arrays, [path] * len(arrays))
    return rows_of(arrays, [path])


def _file(number: int) -> str:
    return f"array-{number}"  # not the name of the array: it may be a path


@dataclass(frozen=True)
class _Header:
    """What an array of an archive says about itself."""

    shape: tuple[int, ...]
    by_columns: bool
    dtype: np.dtype[Any]

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def _size(path: Path, name: str) -> int:
    with _reading(path), _opened(path, name) as (header, _):
        return header.bytes


def _pieces(path: Path, name: str) -> Iterator[np.ndarray]:
    """Yield the rows of an array, some MiB at a time; whole if it is stored by columns."""
    with _reading(path), _opened(path, name) as (header, stream):
        rows = max(1, _BYTES_AT_ONCE // max(1, header.row_bytes))
        step = header.shape[0] if header.by_columns and len(header.shape) > 1 else rows
        for first in range(0, header.shape[0], max(1, step)):
            shape = (min(step, header.shape[0] - first), *header.shape[1:])
            values = np.frombuffer(stream.read(shape[0] * header.row_bytes), header.dtype)
            order: Literal["F", "C"] = "F" if header.by_columns else "C"
            yield values.reshape(shape, order=order).astype(header.dtype.newbyteorder("<"), copy=False)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Tell damage of the archive from everything else: parsers of foreign bytes raise all kinds of exceptions."""
    try:
        yield
    except PARSER_FAILURES as error:
        raise DataDamage(str(path), f"this is not a sound .npz file: {reason_of(error)}").error() from error


@contextlib.contextmanager
def _opened(path: Path, name: str) -> Iterator[tuple[_Header, IO[bytes]]]:
    with zipfile.ZipFile(path) as archive:
        found = [member for member in archive.infolist() if member.filename in (name, f"{name}.npy")]
        if not found:
            names = ", ".join(member.filename.removesuffix(".npy") for member in archive.infolist()[:_MOST_NAMED])
            raise UserError(f"this archive has no array {name!r}", where=str(path), remedy=f"it has {names}")
        with archive.open(found[0]) as stream:
            read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(npy.read_magic(stream))
            if read is None:
                raise ValueError("an unknown version of the .npy format")
            header = _Header(*read(stream))
            require_numbers(header.dtype, header.shape, path)
            if stream.tell() + header.bytes != found[0].file_size:
                raise ValueError(f"{name} is not as long as its shape {header.shape} says")
            yield header, stream


def _require_room(path: Path, folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if size > free:
        problem = f"its arrays take {format_bytes(size)} unpacked, and the cache has room for {format_bytes(free)}"
        remedy = f"save them as .npy files, or choose another cache with {variables.CACHE_DIR}"
        raise EnvironmentLack(problem, where=str(path), remedy=remedy)
