"""NumPy files with random access: ``.npy`` mapped into memory, ``.npz`` unpacked once, neither with pickles."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from saman.configs.errors import UserError
from saman.trainers.data.interface import RandomAccess
from saman.trainers.data.readers.damage import DamageList, DataDamage, OnCorrupt, from_numpy, require_files
from saman.trainers.data.readers.index import IndexWriter, cached_index, map_array
from saman.trainers.keras_compat import tf


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


def archive_rows(path: Path, names: Sequence[str], on_corrupt: OnCorrupt = "stop") -> RandomAccess:
    """Return the named arrays of a ``.npz`` file as examples; they are unpacked once, into the cache.

    Raises:
        UserError: The file is damaged or lacks an array.
    """

    def build(writer: IndexWriter) -> None:
        require_files([path], DamageList("stop"))
        try:
            with np.load(path, allow_pickle=False) as archive:
                for name in names:
                    if name not in archive.files:
                        problem = f"this archive has no array {name!r}"
                        raise UserError(problem, where=str(path), remedy=f"it has {', '.join(archive.files)}")
                    values = archive[name]
                    writer.append(name, values.astype(values.dtype.newbyteorder("<"), copy=False))
        except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise DataDamage(str(path), f"this is not a sound .npz file: {error}").error() from error

    index = cached_index("npz", [path], {"arrays": list(names)}, on_corrupt, build)
    arrays = [index.arrays[name] for name in names]
    _check_lengths(arrays, [path] * len(arrays))
    return rows_of(arrays, [path])


def _open_shard(files: Sequence[Path], damages: DamageList) -> list[np.ndarray] | None:
    """Map the files that hold the same examples; ``None`` if the shard is damaged and left out."""
    if len(require_files(files, damages)) < len(files):
        return None
    arrays = []
    for path in files:
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            damages.add(DataDamage(str(path), f"this is not a sound .npy file: {error}"))
            return None
        if not isinstance(array, np.ndarray) or array.ndim == 0:
            raise UserError("the array has no axis of examples", where=str(path), remedy="save rows of examples")
        if array.dtype.kind not in "biuf":
            raise UserError(f"arrays of {array.dtype} hold no numbers", where=str(path), remedy="save numbers")
        if isinstance(array, np.memmap) and array.flags.c_contiguous:
            array = map_array(path, array.dtype, array.shape, array.offset)
        arrays.append(array)
    _check_lengths(arrays, files)
    return arrays


def _check_lengths(arrays: Sequence[np.ndarray], files: Sequence[Path]) -> None:
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
