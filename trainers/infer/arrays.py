"""Rows of NumPy and IDX files, read piece by piece."""

from __future__ import annotations

import gzip
import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from saman.trainers.infer.rows import Array, InputSpec, RowBatch, RowSource, UnreadableInput, convert_rows, fit_shape

_IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def open_npy(path: Path, wanted: InputSpec) -> RowSource:
    """Open a ``.npy`` file. It is read, not mapped: mapped pages count as memory of the process."""
    return _array(path, "npy", lambda: path.open("rb"), wanted)


def _array(path: Path, kind: str, opened: Callable[[], IO[bytes]], wanted: InputSpec) -> RowSource:
    """Open an array in NumPy's format as rows of its first axis."""
    with opened() as stream:
        shape, fortran, dtype = _npy_header(stream)
    if not shape:
        raise ValueError("the array is a single number and has no rows")
    if fortran and len(shape) > 1:
        raise ValueError("the array is stored by columns; save it by rows (numpy.ascontiguousarray)")
    fit_shape(shape[1:], wanted)

    def start() -> IO[bytes]:
        stream = opened()
        _npy_header(stream)
        return stream

    forward = _ForwardReader(start, dtype, shape[1:])

    def read(first: int, last: int) -> RowBatch:
        values, errors = convert_rows(forward.rows(first, last), wanted)
        return RowBatch(values, errors, [path.name] * len(errors))

    return RowSource(path, kind, shape[0], read)


class _ForwardReader:
    """Reads rows of fixed size from a stream: forward by seeking, backward by opening it again."""

    def __init__(self, start: Callable[[], IO[bytes]], dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self.start, self.dtype, self.shape = start, dtype, shape
        self.row_bytes = dtype.itemsize * math.prod(shape)
        self.stream: IO[bytes] | None = None
        self.at = 0

    def rows(self, first: int, last: int) -> Array:
        """Read rows ``first`` to ``last``, the last excluded."""
        if self.stream is None or first < self.at:
            self.stream, self.at = self.start(), 0
        self.stream.seek((first - self.at) * self.row_bytes, 1)
        data = self._exactly((last - first) * self.row_bytes)
        self.at = last
        return np.frombuffer(data, self.dtype).reshape(last - first, *self.shape)

    def _exactly(self, count: int) -> bytes:
        assert self.stream is not None
        parts, left = [], count
        while left:
            part = self.stream.read(left)
            if not part:
                raise UnreadableInput(f"the file ends {left} bytes too early")
            parts.append(part)
            left -= len(part)
        return b"".join(parts)


def open_npz(path: Path, wanted: InputSpec, array: str | None = None) -> RowSource:
    """Open an array of a ``.npz`` file without unpacking the whole archive: by default ``inputs``, or the only one."""
    with zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        if array is not None and array not in names:
            raise ValueError(f"it holds the arrays {', '.join(names)}, but not {array}")
        if array is None and "inputs" not in names and len(names) != 1:
            raise ValueError(f"it holds the arrays {', '.join(names)}; name the inputs 'inputs'")
        member = (array or ("inputs" if "inputs" in names else names[0])) + ".npy"
    # Stays open while rows are read.
    return _array(path, "npz", lambda: zipfile.ZipFile(path).open(member), wanted)


def _npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = reader(stream)
    if dtype.hasobject:
        raise ValueError("the array holds Python objects instead of numbers")
    return shape, fortran, dtype


def open_idx(path: Path, wanted: InputSpec) -> RowSource:
    """Open an IDX file, the format of MNIST and Fashion-MNIST, compressed or not."""

    def start() -> IO[bytes]:
        packed = path.suffix == ".gz"
        stream = cast("IO[bytes]", gzip.open(path, "rb") if packed else path.open("rb"))  # noqa: SIM115  (stays open)
        magic = stream.read(4)
        if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _IDX_TYPES or not magic[3]:
            raise ValueError("this is not an IDX file")
        return stream

    with start() as stream:
        stream.seek(0)
        magic = stream.read(4)
        shape = tuple(int.from_bytes(stream.read(4), "big") for _ in range(magic[3]))
    fit_shape(shape[1:], wanted)

    def opened() -> IO[bytes]:
        stream = start()
        stream.read(4 * len(shape))
        return stream

    forward = _ForwardReader(opened, np.dtype(_IDX_TYPES[magic[2]]), shape[1:])

    def read(first: int, last: int) -> RowBatch:
        rows = forward.rows(first, last)
        values, errors = convert_rows(rows.astype(rows.dtype.newbyteorder("=")), wanted)
        return RowBatch(values, errors, [path.name] * len(errors))

    return RowSource(path, "idx", shape[0], read)
