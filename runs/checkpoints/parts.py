"""A part of a checkpoint: a file of named arrays (``.npz``), hashed while it is written; its name holds its digest.

The rename to that name tells the publishing process, on whatever node, that the part is whole, and what it must hold.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from saman.configs.regular_files import open_regular
from saman.runs.checkpoints.hashed_file import HashedFile

BLOCK_BYTES = 1 << 20
_NAME = re.compile(r"part-(\d{5,})-([0-9a-f]{64})\.npz")


class DamagedCheckpoint(Exception):  # noqa: N818  (the name of the state, not of the error)
    """The content of a checkpoint differs from what was written."""


@dataclass(frozen=True)
class PartFile:
    """A whole part on disk; ``bytes`` is ``None`` where an older manifest does not say it."""

    name: str
    sha256: str
    bytes: int | None = None


def write(place: Path, part: int, arrays: dict[str, np.ndarray]) -> PartFile:
    """Write a part; each array leaves ``arrays`` when it is written, so that its memory is free at once.

    Args:
        place: The folder of the part.
        part: Number of the part, from 0.
        arrays: The content, by name; empty afterwards.

    Raises:
        OSError: It cannot be written; nothing is left of it.
    """
    place.mkdir(parents=True, exist_ok=True)
    temporary = place / f".part-{part:05d}.tmp"
    try:
        with HashedFile(temporary) as out:
            with zipfile.ZipFile(out, "w") as archive:  # type: ignore[call-overload]
                while arrays:
                    name = next(iter(arrays))
                    _write_array(archive, name, arrays.pop(name))
            out.sync()
        whole = PartFile(f"part-{part:05d}-{out.sha256}.npz", out.sha256, out.written)
        temporary.replace(place / whole.name)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    return whole


def _write_array(archive: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    array = np.asarray(array, order="C")
    if array.dtype.hasobject:
        raise ValueError(f"{name} holds Python objects, which a checkpoint cannot")
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array_header_1_0(member, np.lib.format.header_data_from_array_1_0(array))
        data = array.reshape(-1).view(np.uint8).data
        for start in range(0, len(data), BLOCK_BYTES):
            member.write(data[start : start + BLOCK_BYTES])


def find_parts(place: Path) -> dict[int, PartFile]:
    """Return the whole parts in a folder, by number."""
    matches = {name: match for name in sorted(_names(place)) if (match := _NAME.fullmatch(name))}
    return {int(match[1]): PartFile(name, match[2], (place / name).stat().st_size) for name, match in matches.items()}


def count_parts(place: Path) -> int:
    """Return the number of whole parts in a folder, by a single look: it is repeated on a shared file system."""
    return len({match[1] for name in _names(place) if (match := _NAME.fullmatch(name))})


def _names(place: Path) -> list[str]:
    return [path.name for path in place.iterdir()]


def read_arrays(place: Path, part: PartFile) -> Iterator[tuple[str, np.ndarray]]:
    """Check a part, then yield its arrays one by one.

    Raises:
        DamagedCheckpoint: It is not the file that was written, or not an archive of arrays.
    """
    try:
        with open_regular(place / part.name) as file:
            _check(file, part)
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                for name in arrays.files:
                    yield name, arrays[name]
    except OSError as error:
        raise DamagedCheckpoint(f"{part.name} cannot be read: {error.strerror}") from error
    except (ValueError, zipfile.BadZipFile) as error:
        raise DamagedCheckpoint(f"{part.name} is not an archive of arrays: {error}") from error


def _check(file: BinaryIO, part: PartFile) -> None:
    size, digest = os.fstat(file.fileno()).st_size, hashlib.sha256()
    if part.bytes is not None and size != part.bytes:
        raise DamagedCheckpoint(f"{part.name} has {size} bytes instead of {part.bytes}")
    while block := file.read(BLOCK_BYTES):
        digest.update(block)
    if digest.hexdigest() != part.sha256:
        raise DamagedCheckpoint(f"{part.name} is not the file that was written (SHA-256 differs)")


def parts_of(files: Mapping[str, Any]) -> list[PartFile]:
    """Return the parts that a manifest names.

    Raises:
        DamagedCheckpoint: A name leads out of the folder, or a value has another type.
    """
    parts = []
    for name, about in files.items():
        known = {"sha256": about} if isinstance(about, str) else about  # schema 1 holds the digest alone
        if not isinstance(known, dict) or not isinstance(known.get("sha256"), str) or Path(name).name != name:
            raise DamagedCheckpoint(f"the manifest's entry {name!r} is not a file with its digest")
        parts.append(PartFile(name, known["sha256"], known.get("bytes")))
    return parts
