"""Reads rows out of NumPy, Parquet, IDX and image files piece by piece; memory does not grow with the input.

A row that cannot be an input of the model becomes zeros and an error with the reason; it keeps its place.
"""

from __future__ import annotations

import gzip
import math
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

Array = np.ndarray[Any, Any]
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")
_IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


class UnreadableInput(Exception):  # noqa: N818
    """A file that cannot be read at all; what a single row lacks is no reason to raise."""


@dataclass(frozen=True)
class Wanted:
    """What the model takes: the dtype, and the shape of one example (``None`` where any length goes)."""

    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Piece:
    """Rows in their order: ``values`` (examples first), and for each why it is bad (``None`` where it is not)."""

    values: Array
    errors: list[str | None]
    names: list[str]


@dataclass(frozen=True)
class RowSource:
    """A file or folder of rows. ``read(start, stop)`` is cheapest called with growing positions."""

    path: Path
    kind: str
    rows: int
    read: Callable[[int, int], Piece]


def open_source(path: Path, wanted: Wanted) -> RowSource:
    """The rows of a file, or of a folder of images, told apart by name. Raises ``UnreadableInput``."""
    try:
        if path.is_dir():
            return _images(path, wanted)
        name = path.name.lower()
        if name.endswith(".npy"):
            return _npy(path, wanted)
        if name.endswith(".npz"):
            return _npz(path, wanted)
        if name.endswith((".parquet", ".pq")):
            return _parquet(path, wanted)
        if "ubyte" in name or name.endswith((".idx", ".idx.gz")):
            return _idx(path, wanted)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UnreadableInput(f"{path}: {error}") from error
    known = ".npy, .npz, .parquet, IDX (…-ubyte, .idx, .gz), or a folder of images"
    raise UnreadableInput(f"{path}: this kind of file is not known; known are {known}")


# ---- rows of numbers ---------------------------------------------------------------------------------------------


def checked(values: Array, wanted: Wanted) -> tuple[Array, list[str | None]]:
    """``values`` as the model takes them, and what is wrong with each row: not finite, or not of the dtype."""
    count = len(values)
    target: np.dtype[Any] = np.dtype(wanted.dtype)
    size = math.prod(values.shape[1:])
    flat = values.reshape(count, size)
    bad: list[str | None] = [None] * count
    with np.errstate(invalid="ignore", over="ignore"):
        fitted = flat.astype(target)
    if np.issubdtype(flat.dtype, np.floating):
        _mark(bad, np.asarray(~np.isfinite(flat).all(axis=1)), "a value is not finite")
    if np.issubdtype(target, np.integer) and flat.dtype != target:
        with np.errstate(invalid="ignore"):
            changed = (fitted.astype("float64") != flat.astype("float64")).any(axis=1)
        _mark(bad, changed, f"a value does not fit {target.name}")
    for index, reason in enumerate(bad):
        if reason:
            fitted[index] = 0
    return fitted.reshape(count, *_fitting(values.shape[1:], wanted)), bad


def _mark(bad: list[str | None], rows: Any, reason: str) -> None:
    for index in np.flatnonzero(rows):
        bad[index] = bad[index] or reason


def _fitting(shape: tuple[int, ...], wanted: Wanted) -> tuple[int, ...]:
    """The shape to give to examples of ``shape``: a trailing or missing axis of 1 and flat rows are put right."""
    if len(shape) == len(wanted.shape) and all(w in (None, s) for s, w in zip(shape, wanted.shape, strict=True)):
        return shape
    if None not in wanted.shape and math.prod(shape) == math.prod(int(w or 1) for w in wanted.shape):
        return tuple(int(w or 1) for w in wanted.shape)
    raise ValueError(f"examples have shape {list(shape)}, the model takes {list(wanted.shape)}")


def _npy(path: Path, wanted: Wanted) -> RowSource:
    """Read, not mapped into memory: mapped pages count as this process's memory and grow with the file."""
    return _array(path, "npy", lambda: path.open("rb"), wanted)


def _array(path: Path, kind: str, opened: Callable[[], IO[bytes]], wanted: Wanted) -> RowSource:
    """Rows of an array in NumPy's format, from a stream."""
    with opened() as stream:
        shape, fortran, dtype = _npy_header(stream)
    if not shape:
        raise ValueError("it holds a single number, not rows")
    if fortran and len(shape) > 1:
        raise ValueError("the array is stored by columns; save it by rows (numpy.ascontiguousarray)")
    _fitting(shape[1:], wanted)

    def start() -> IO[bytes]:
        stream = opened()
        _npy_header(stream)
        return stream

    forward = _Forward(start, dtype, shape[1:])

    def read(first: int, last: int) -> Piece:
        values, errors = checked(forward.rows(first, last), wanted)
        return Piece(values, errors, [path.name] * len(errors))

    return RowSource(path, kind, shape[0], read)


class _Forward:
    """Rows of fixed size in a stream where going forward is cheap; going back opens it anew."""

    def __init__(self, start: Callable[[], IO[bytes]], dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self.start, self.dtype, self.shape = start, dtype, shape
        self.row_bytes = dtype.itemsize * math.prod(shape)
        self.stream: IO[bytes] | None = None
        self.at = 0

    def rows(self, first: int, last: int) -> Array:
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


def _npz(path: Path, wanted: Wanted) -> RowSource:
    """The array called ``inputs``, or the only one; read through the archive without unpacking it whole."""
    with zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        if "inputs" not in names and len(names) != 1:
            raise ValueError(f"it holds {', '.join(names)}, and none is called inputs")
        member = ("inputs" if "inputs" in names else names[0]) + ".npy"
    # Stays open while rows are read.
    return _array(path, "npz", lambda: zipfile.ZipFile(path).open(member), wanted)


def _npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = reader(stream)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, not numbers")
    return shape, fortran, dtype


def _idx(path: Path, wanted: Wanted) -> RowSource:
    """The format of MNIST and Fashion-MNIST, packed or not."""

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
    _fitting(shape[1:], wanted)

    def opened() -> IO[bytes]:
        stream = start()
        stream.read(4 * len(shape))
        return stream

    forward = _Forward(opened, np.dtype(_IDX_TYPES[magic[2]]), shape[1:])

    def read(first: int, last: int) -> Piece:
        rows = forward.rows(first, last)
        values, errors = checked(rows.astype(rows.dtype.newbyteorder("=")), wanted)
        return Piece(values, errors, [path.name] * len(errors))

    return RowSource(path, "idx", shape[0], read)


# ---- rows of a table ---------------------------------------------------------------------------------------------


def _parquet(path: Path, wanted: Wanted) -> RowSource:
    """A column ``inputs`` of lists, or every column of numbers in its order as a feature."""
    import polars as pl

    frame = pl.scan_parquet(path)
    schema = frame.collect_schema()
    columns = ["inputs"] if "inputs" in schema else [name for name, dtype in schema.items() if dtype.is_numeric()]
    if not columns:
        raise ValueError("no column is called inputs, and none holds numbers")
    size = math.prod(int(w or 1) for w in wanted.shape)
    if len(columns) > 1 and len(columns) != size:
        raise ValueError(f"{len(columns)} columns hold numbers, but the model takes {size} values a row")
    rows = int(frame.select(pl.len()).collect().item())

    def read(first: int, last: int) -> Piece:
        part = frame.select(columns).slice(first, last - first).collect()
        values, errors = _features(part, size) if len(columns) > 1 else _lists(part.to_series(), size)
        shaped, bad = checked(values.reshape(len(errors), size), wanted)
        errors = [ours or theirs for ours, theirs in zip(errors, bad, strict=True)]
        return Piece(shaped, errors, [path.name] * len(errors))

    return RowSource(path, "parquet", rows, read)


def _features(part: Any, size: int) -> tuple[Array, list[str | None]]:
    import polars as pl

    lacking = part.select(pl.any_horizontal(pl.all().is_null())).to_series().to_list()
    values = part.fill_null(0).to_numpy().reshape(-1, size)
    return values, ["a value is missing" if lack else None for lack in lacking]


def _lists(column: Any, size: int) -> tuple[Array, list[str | None]]:
    if not column.dtype.is_nested():
        errors = ["a value is missing" if lack else None for lack in column.is_null().to_list()]
        return column.fill_null(0).to_numpy().reshape(-1, 1), errors
    values, errors = np.zeros((len(column), size)), []
    for index, row in enumerate(column.to_list()):
        reason = None
        try:
            flat = np.asarray(row, dtype="float64").reshape(-1)
            if row is None or np.isnan(flat).any() and _has_none(row):
                reason = "a value is missing"
            elif len(flat) != size:
                reason = f"it has {len(flat)} values instead of {size}"
            else:
                values[index] = flat
        except (TypeError, ValueError):
            reason = "it holds something else than numbers"
        errors.append(reason)
    return values, errors


def _has_none(row: Any) -> bool:
    return any(_has_none(one) if isinstance(one, list) else one is None for one in row)


# ---- images ------------------------------------------------------------------------------------------------------


def _images(folder: Path, wanted: Wanted) -> RowSource:
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGES)
    if not files:
        raise ValueError(f"no images are in this folder ({', '.join(IMAGES)})")
    if len(wanted.shape) not in (2, 3) or None in wanted.shape:
        raise ValueError(f"the model takes {list(wanted.shape)}, which are no images of one size")

    def read(first: int, last: int) -> Piece:
        shape = tuple(int(w or 1) for w in wanted.shape)
        values, errors, names = np.zeros((last - first, *shape), wanted.dtype), [], []
        for index, file in enumerate(files[first:last]):
            names.append(file.relative_to(folder).as_posix())
            try:
                pixels = _decoded(file, shape)
                fitted, [error] = checked(pixels[None], wanted)
                values[index] = fitted[0]
            except ValueError as problem:
                error = str(problem)
            errors.append(error)
        return Piece(values, errors, names)

    return RowSource(folder, "images", len(files), read)


def _decoded(file: Path, shape: tuple[int, ...]) -> Array:
    """The pixels of an image, as many channels as the model takes; raises ``ValueError`` for a bad file or size."""
    import tensorflow as tf

    channels = shape[2] if len(shape) == 3 else 1
    try:
        pixels = tf.io.decode_image(file.read_bytes(), channels=channels, expand_animations=False).numpy()
    except tf.errors.InvalidArgumentError:
        raise ValueError("it cannot be read as an image") from None
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror}") from None
    if pixels.shape[:2] != shape[:2]:
        raise ValueError(f"it has {pixels.shape[0]}×{pixels.shape[1]} pixels instead of {shape[0]}×{shape[1]}")
    return np.asarray(pixels[..., 0] if len(shape) == 2 else pixels)
