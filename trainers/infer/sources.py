"""Opens inputs of any supported kind; their memory does not grow with the file."""

from __future__ import annotations

import zipfile
from pathlib import Path

from saman.trainers.infer.arrays import open_idx, open_npy, open_npz
from saman.trainers.infer.images import open_images
from saman.trainers.infer.rows import InputSpec, RowSource, UnreadableInput
from saman.trainers.infer.tables import open_parquet


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
