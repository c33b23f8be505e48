"""``.npy`` files with random access: mapped into memory, without pickles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import MAGIC_PREFIX

from saman.configs.errors import UserError
from saman.trainers.data.interface import RandomAccess
from saman.trainers.data.readers.damage import (
    PARSER_FAILURES,
    DamageList,
    DataDamage,
    OnCorrupt,
    from_numpy,
    reason_of,
    require_files,
)
from saman.trainers.data.readers.index import map_array
from saman.trainers.keras_compat import tf

_LARGEST_NUMBER = 8  # bytes; TensorFlow has no larger numbers


def rows_of(arrays: Sequence[np.ndarray], files: Sequence[Path] = (), **facts: Any) -> RandomAccess:
    """Return arrays of equal length, mapped or in memory, as examples: a tuple with a row of each.

    Args:
        arrays: The arrays; the first axis counts the examples.
        files: The files that hold them.
        **facts: Further fields of ``RandomAccess``.
    """
    specs = [tf.TensorSpec(array.shape[1:], tf.as_dtype(array.dtype.newbyteorder("="))) for array in arrays]

    def take(positions: np.ndarray) -> list[np.ndarray]:
        return [np.asarray(array[positions], array.dtype.newbyteorder("=")) for array in arrays]

    def read(positions: Any) -> Any:
        return tuple(from_numpy(take, positions, specs))

    return RandomAccess(len(arrays[0]), read, files=tuple(files), **facts)


def numpy_rows(parts: Sequence[Sequence[Path]], on_corrupt: OnCorrupt = "stop") -> RandomAccess:
    """Return the rows of ``.npy`` files as examples.

    Args:
        parts: For each part of an example (inputs, labels, weights) its files, one after the other. The files at the
            same place of all parts hold the same examples.
        on_corrupt: Whether a damaged file stops the run or is left out, together with those of the other parts.

    Raises:
        UserError: A file is missing or damaged, holds Python objects, or differs from the others.
    """
    damages = DamageList(on_corrupt)
    shards = [opened for files in zip(*parts, strict=True) if (opened := _open_shard(files, damages)) is not None]
    if not shards:
        raise UserError("no file could be read", where=str(parts[0][0]), remedy="restore the files")
    files = [path for part in parts for path in part]
    facts = {"skipped": tuple(damages.listed), "lost": damages.examples}
    if len(shards) == 1:
        return rows_of(shards[0], files, **facts)
    _check_alike(shards, parts)
    return _joined_rows(shards, files, **facts)


def _open_shard(files: Sequence[Path], damages: DamageList) -> list[np.ndarray] | None:
    """Map the files that hold the same examples; ``None`` if the shard is damaged and left out."""
    if len(require_files(files, damages)) < len(files):
        return None
    arrays = []
    for path in files:
        try:
            _require_npy(path)
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except PARSER_FAILURES as error:
            damages.add(DataDamage(str(path), f"this is not a sound .npy file: {reason_of(error)}"))
            return None
        require_numbers(array.dtype, array.shape, path)
        if isinstance(array, np.memmap) and array.flags.c_contiguous:
            array = map_array(path, array.dtype, array.shape, array.offset)
        arrays.append(array)
    check_lengths(arrays, files)
    return arrays


def _require_npy(path: Path) -> None:
    # np.load takes archives and pickles for files of another kind, and its message recommends to allow them.
    with path.open("rb") as file:
        if file.read(len(MAGIC_PREFIX)) != MAGIC_PREFIX:
            raise ValueError("it does not begin as one")


def require_numbers(dtype: np.dtype[Any], shape: Sequence[int], path: Path) -> None:
    """Refuse an array file that holds no rows of numbers.

    Raises:
        UserError: It has no axis of examples, holds Python objects, texts or records, or numbers above 64 bits.
    """
    if dtype.kind not in "biuf" or dtype.itemsize > _LARGEST_NUMBER:
        remedy = "save numbers of at most 64 bits"
        raise UserError(f"saman reads no arrays of {dtype}", where=str(path), remedy=remedy)
    if not shape or any(length < 0 for length in shape):
        raise UserError(
            f"an array of shape {tuple(shape)} has no rows", where=str(path), remedy="save rows of examples"
        )


def check_lengths(arrays: Sequence[np.ndarray], files: Sequence[Path]) -> None:
    """Raise ``UserError`` unless all array files have as many rows as the first."""
    for array, path in zip(arrays, files, strict=True):
        if array.ndim == 0 or len(array) != len(arrays[0]):
            raise UserError(
                f"an array of shape {array.shape} does not match {len(arrays[0])} examples in {files[0].name}",
                where=str(path),
                remedy="save as many labels and weights as inputs",
            )


def _check_alike(shards: Sequence[Sequence[np.ndarray]], parts: Sequence[Sequence[Path]]) -> None:
    for arrays in shards:
        for array, first, files in zip(arrays, shards[0], parts, strict=True):
            if (array.dtype, array.shape[1:]) != (first.dtype, first.shape[1:]):
                problem = f"rows of {array.dtype}{array.shape[1:]} follow rows of {first.dtype}{first.shape[1:]}"
                raise UserError(problem, where=str(files[0].parent), remedy="save all files alike")


def _joined_rows(shards: Sequence[Sequence[np.ndarray]], files: Sequence[Path], **facts: Any) -> RandomAccess:
    starts = np.cumsum([0, *(len(shard[0]) for shard in shards)])
    specs = [tf.TensorSpec(part.shape[1:], tf.as_dtype(part.dtype.newbyteorder("="))) for part in shards[0]]

    def take(positions: np.ndarray) -> list[np.ndarray]:
        shard_of = np.searchsorted(starts, positions, "right") - 1
        found = [np.empty((len(positions), *part.shape[1:]), part.dtype.newbyteorder("=")) for part in shards[0]]
        for number in np.unique(shard_of):
            here = np.flatnonzero(shard_of == number)
            for values, part in zip(found, shards[number], strict=True):
                values[here] = part[positions[here] - starts[number]]
        return found

    def read(positions: Any) -> Any:
        return tuple(from_numpy(take, positions, specs))

    return RandomAccess(int(starts[-1]), read, files=tuple(files), **facts)
