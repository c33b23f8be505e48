"""Opens inputs of any supported kind; their memory does not grow with the file."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

from saman.trainers.infer.arrays import open_idx, open_npy, open_npz
from saman.trainers.infer.images import open_images
from saman.trainers.infer.rows import InputBatch, InputSource, InputSpec, RowSource, UnreadableInput
from saman.trainers.infer.tables import open_parquet


def open_inputs(path: Path, wanted: Mapping[str, InputSpec]) -> InputSource:
    """Open a file or folder with the rows of every input of a model; raises ``UnreadableInput``.

    Several inputs come from a file that names them: an array or a column for each.
    """
    if len(wanted) == 1:
        [(name, spec)] = wanted.items()
        return _together(path, {name: open_source(path, spec)})
    opened = {".npz": open_npz, ".parquet": open_parquet, ".pq": open_parquet}.get(path.suffix.lower())
    if opened is None:
        names = ", ".join(wanted)
        raise UnreadableInput(f"{path}: the model takes {names}; use .npz or .parquet with an array or column of each")
    try:
        return _together(path, {name: opened(path, spec, name) for name, spec in wanted.items()})
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UnreadableInput(f"{path}: {error}") from error


def _together(path: Path, sources: Mapping[str, RowSource]) -> InputSource:
    """Read the rows of several inputs side by side."""
    counts = {name: source.rows for name, source in sources.items()}
    if len(set(counts.values())) > 1:
        raise UnreadableInput(f"{path}: the inputs differ in their rows: {counts}")

    any_source = next(iter(sources.values()))

    def read(first: int, last: int) -> InputBatch:
        batches = {name: source.read(first, last) for name, source in sources.items()}
        named = [[_of_input(name, error, len(batches)) for error in batch.errors] for name, batch in batches.items()]
        errors = [next((error for error in row if error), None) for row in zip(*named, strict=True)]
        return InputBatch(
            {name: batch.values for name, batch in batches.items()}, errors, next(iter(batches.values())).names
        )

    any_source = next(iter(sources.values()))
    return InputSource(path, any_source.kind, any_source.rows, read)


def _of_input(name: str, error: str | None, inputs: int) -> str | None:
    return error if error is None or inputs == 1 else f"{name}: {error}"


def open_source(path: Path, wanted: InputSpec) -> RowSource:
    """Open a file, or a folder of images, by the kind in its name; raises ``UnreadableInput``."""
    try:
        if path.is_dir():
            return open_images(path, wanted)
        name = path.name.lower()
        if name.endswith(".npy"):
            return open_npy(path, wanted)
        if name.endswith(".npz"):
            return open_npz(path, wanted)
        if name.endswith((".parquet", ".pq")):
            return open_parquet(path, wanted)
        if "ubyte" in name or name.endswith((".idx", ".idx.gz")):
            return open_idx(path, wanted)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UnreadableInput(f"{path}: {error}") from error
    known = ".npy, .npz, .parquet, IDX (…-ubyte, .idx, .gz), or a folder of images"
    raise UnreadableInput(f"{path}: unknown kind of file; supported are {known}")
