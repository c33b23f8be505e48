"""Indexes of data files: built once, kept in the user's cache, mapped into memory, verified by size and time.

An index is a folder of raw arrays and ``index.json``, which names its files with their sizes and modification times.
The folder appears by a single rename. When a file has changed, the next reader builds the index anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import mmap
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from saman.configs.errors import EnvironmentLack
from saman.runs import variables
from saman.runs.caches import cache_folder, hold_user_lock, require_trusted
from saman.runs.files.whole import read_json, write_json
from saman.runs.records.schema import mapping
from saman.trainers.data.readers.damage import DamageList, DataDamage, OnCorrupt

SCHEMA = 1
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Index:
    """An index of data files.

    Attributes:
        arrays: The arrays by name, mapped read-only.
        facts: Further facts by name, as JSON holds them.
        skipped: The first damaged places that the index leaves out.
        skipped_examples: The number of examples left out, as far as known.
    """

    arrays: Mapping[str, np.ndarray]
    facts: Mapping[str, Any]
    skipped: tuple[DataDamage, ...] = ()
    skipped_examples: int = 0


@dataclass
class IndexWriter:
    """Receives the arrays of a new index piece by piece, so that no array need fit into memory."""

    folder: Path
    damages: DamageList
    facts: dict[str, Any] = field(default_factory=dict)
    _shapes: dict[str, tuple[str, list[int]]] = field(default_factory=dict)

    def append(self, name: str, rows: np.ndarray) -> None:
        """Append rows to an array; all pieces have the same dtype and the same shape of a row."""
        dtype, shape = self._shapes.setdefault(name, (rows.dtype.newbyteorder("<").str, [0, *rows.shape[1:]]))
        if rows.dtype.newbyteorder("<").str != dtype or list(rows.shape[1:]) != shape[1:]:
            raise ValueError(f"{name}: rows of {rows.dtype}{rows.shape[1:]} after rows of {dtype}{shape[1:]}")
        with (self.folder / f"{name}.bin").open("ab") as file:
            np.ascontiguousarray(rows, dtype).tofile(file)
        shape[0] += len(rows)

    def close(self, files: Sequence[tuple[str, int, int]]) -> None:
        """Write ``index.json``, which makes the folder an index."""
        listed = [asdict(damage) for damage in self.damages.listed]
        record = {"schema": SCHEMA, "files": files, "arrays": self._shapes, "facts": self.facts}
        write_json(self.folder / "index.json", {**record, "skipped": listed, "lost": self.damages.examples})


def cached_index(
    kind: str,
    files: Sequence[Path],
    options: Mapping[str, Any],
    on_corrupt: OnCorrupt,
    build: Callable[[IndexWriter], None],
) -> Index:
    """Return the index of files: from the cache, or built anew by one process while the others wait.

    Args:
        kind: The kind of index.
        files: The files and folders that the index depends on.
        options: What else the index depends on, as JSON can hold it.
        on_corrupt: Whether damage stops the run or is left out of the index.
        build: Writes the arrays of a new index.

    Raises:
        UserError: A file is damaged, and ``on_corrupt`` is ``stop``.
        EnvironmentLack: The cache cannot be written.
    """
    names = [str(path.absolute()) for path in files]
    key = json.dumps([SCHEMA, kind, names, dict(options), on_corrupt], sort_keys=True)
    folder = cache_folder() / "data" / f"{kind}-{hashlib.sha256(key.encode()).hexdigest()[:24]}"
    require_trusted(cache_folder(), folder.parent, folder)
    states = file_states(files)
    found = _read(folder, states)
    if found is not None:
        return found
    try:
        with hold_user_lock(folder.name, cache_folder(), lambda: _log.info("another process builds %s", folder)):
            found = _read(folder, states)
            if found is None:
                _build(folder, states, on_corrupt, build)
                found = _read(folder, states)
    except OSError as error:
        raise EnvironmentLack(
            f"the index of the data cannot be written: {error.strerror or error}",
            where=str(folder),
            remedy=f"choose another folder with {variables.CACHE_DIR}",
        ) from error
    assert found is not None, "it was written under the lock"
    return found


def file_states(files: Sequence[Path]) -> list[tuple[str, int, int]]:
    """Return absolute path, size in bytes and modification time in ns of each file; -1 for a missing file."""
    states = []
    for path in files:
        try:
            status = path.stat()
            states.append((str(path.absolute()), status.st_size, status.st_mtime_ns))
        except OSError:
            states.append((str(path.absolute()), -1, -1))
    return states


def _build(
    folder: Path, states: list[tuple[str, int, int]], on_corrupt: OnCorrupt, build: Callable[[IndexWriter], None]
) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _draft(folder) as draft:
        writer = IndexWriter(draft, DamageList(on_corrupt))
        _log.info("building the index of %d files (once; it is kept in %s)", len(states), folder)
        build(writer)
        writer.close(states)
        if folder.exists():  # of files that have changed; processes that mapped it keep their pages
            old = folder.with_name(f".{folder.name}.old")
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
            shutil.rmtree(old, ignore_errors=True)
        draft.rename(folder)


@contextlib.contextmanager
def _draft(folder: Path) -> Iterator[Path]:
    draft = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _read(folder: Path, states: list[tuple[str, int, int]]) -> Index | None:
    """Return the index in a folder; ``None`` if there is none, or if it belongs to other states of the files."""
    record = read_json(folder / "index.json")
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        return None
    try:
        return _from_record(folder, record) if [tuple(state) for state in record["files"]] == states else None
    except (LookupError, TypeError, ValueError, AttributeError):  # a damaged index is built anew
        return None


def _from_record(folder: Path, record: Mapping[str, Any]) -> Index | None:
    arrays = {}
    for name, (dtype, shape) in record["arrays"].items():
        path, kind = folder / f"{name}.bin", np.dtype(dtype)
        if kind.kind not in "biuf" or not path.is_file() or path.stat().st_size != math.prod(shape) * kind.itemsize:
            return None
        arrays[name] = map_array(path, kind, tuple(shape))
    skipped = tuple(DataDamage(**damage) for damage in record["skipped"])
    return Index(arrays, mapping(record["facts"]), skipped, int(record["lost"]))


def map_array(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], offset: int = 0) -> np.ndarray:
    """Map an array in a file into memory, read-only, for reading in any order.

    The kernel would otherwise read ahead from every row: where it reads ahead 8 MiB, a row took 12 ms instead of 40 µs.

    Args:
        path: The file.
        dtype: The type of the values, stored by rows.
        shape: The shape.
        offset: The byte at which the values begin.

    Raises:
        ValueError: The file is too short.
    """
    size = math.prod(shape) * dtype.itemsize
    if not size:
        return np.zeros(shape, dtype)
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), offset + size, access=mmap.ACCESS_READ)
    mapped.madvise(mmap.MADV_RANDOM)
    return np.ndarray(shape, dtype, mapped, offset)
