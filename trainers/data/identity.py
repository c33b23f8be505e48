"""Finds the identity of data files: hashes, cached by size and modification time, and Croissant metadata."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from stat import S_ISREG
from typing import Any, Literal

from saman.configs.regular_files import read_regular
from saman.runs.caches import cache_folder
from saman.runs.files.whole import parse_json, read_json, write_json
from saman.runs.records.provenance import DataFile, DataIdentity, digest_of_files
from saman.trainers.data.interface import RandomAccess, Splits

Hashing = Literal["auto", "always", "never"]
MOST_BYTES = 2 << 30  # that ``auto`` hashes: a few seconds, once
MOST_FILES = 100_000  # that ``auto`` looks at
MOST_LISTED = 1000  # files in a record
_CROISSANT = ("croissant.json", "metadata.json")
_FACTS = ("name", "version", "license", "url", "citeAs")
_AT_ONCE = 4 << 20
_log = logging.getLogger(__name__)


def identity_of(splits: Splits, hashing: Hashing = "auto") -> DataIdentity | None:
    """Return the identity of the files behind the parts of a data set; ``None`` if no reader names files, or too many.

    Args:
        splits: The data of a run.
        hashing: ``auto`` hashes up to 2 GiB in up to 100,000 files, ``always`` any size, ``never`` nothing. A file is
            hashed again only when its size or modification time has changed.
    """
    parts = (splits.train, splits.validation, splits.test)
    given = dict.fromkeys(path for part in parts if isinstance(part, RandomAccess) for path in part.files)
    if not given:
        return None
    root = Path(os.path.commonpath([path.absolute() if path.is_dir() else path.absolute().parent for path in given]))
    found = sorted(islice(_states(given, root), None if hashing == "always" else MOST_FILES + 1))
    if len(found) > MOST_FILES and hashing != "always":
        return None
    total = sum(state.size for state in found)
    hashed = hashing == "always" or (hashing == "auto" and total <= MOST_BYTES)
    hashes = _hashes(root, found) if hashed else {}
    files = [DataFile(state.name, state.size, hashes.get(state.name)) for state in found]
    croissant, promised = _croissant(root)
    differing = [file.name for file in files if file.sha256 and promised.get(Path(file.name).name) != file.sha256]
    return DataIdentity(
        digest=digest_of_files(files),
        files=len(files),
        bytes=total,
        hashed=hashed,
        listed=tuple(files[:MOST_LISTED]),
        croissant=croissant,
        differing=tuple(name for name in differing if Path(name).name in promised),
    )


@dataclass(frozen=True, order=True)
class _State:
    """A file as it is: its name for records, its path, its size, and its modification time in ns."""

    name: str
    path: Path
    size: int
    changed: int


def _states(given: Iterable[Path], root: Path) -> Iterator[_State]:
    for path in given:
        for file in path.glob("*/*") if path.is_dir() else [path]:
            try:
                status = file.stat()
            except OSError:
                continue  # a shard that is missing and left out
            if S_ISREG(status.st_mode):
                name = os.fsencode(os.path.relpath(file.absolute(), root)).decode("utf-8", "backslashreplace")
                yield _State(name, file, status.st_size, status.st_mtime_ns)


def _hashes(root: Path, states: Sequence[_State]) -> dict[str, str]:
    """Return the SHA-256 of each file, from the cache where its size and time are the same."""
    key = hashlib.sha256(os.fsencode(root)).hexdigest()[:24]
    cache = cache_folder() / "data" / f"hashes-{key}.json"
    value = read_json(cache)
    known: dict[str, Any] = value if isinstance(value, dict) else {}
    for state in states:
        if known.get(state.name, [])[:2] != [state.size, state.changed]:
            known[state.name] = [state.size, state.changed, _sha256(state.path)]
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_json(cache, known)
    except OSError as error:
        _log.warning("the hashes of the data cannot be kept in %s: %s", cache, error.strerror)
    return {state.name: str(known[state.name][2]) for state in states}


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_AT_ONCE):
            digest.update(block)
    return digest.hexdigest()


def _is_croissant(value: Mapping[str, Any], name: str) -> bool:
    """Whether a file says that it is a Croissant description; before version 1.0 only its name and type do."""
    named = name == _CROISSANT[0] and str(value.get("@type", "")).rpartition(":")[2] == "Dataset"
    return named or "croissant" in json.dumps(value.get("conformsTo", "")).lower()


def _croissant(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Return facts and hashes by file name from a Croissant description in a folder; empty without one.

    The names in it are compared with those of the files, never opened.
    """
    for name in _CROISSANT:
        try:
            value = parse_json(read_regular(folder / name).decode("utf-8"))
        except (OSError, ValueError):
            continue
        if not isinstance(value, dict) or not _is_croissant(value, name):
            continue
        facts = {key: str(value[key]) for key in _FACTS if isinstance(value.get(key), str | int | float)}
        items = value.get("distribution")
        files = [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
        promised = {
            Path(str(file.get("contentUrl") or file.get("name"))).name: str(file["sha256"]).lower()
            for file in files
            if isinstance(file.get("sha256"), str) and len(file["sha256"]) == 64
        }
        return facts, promised
    return {}, {}
