"""Damage of versions: its kinds, and the comparison of a folder with the file records of a manifest."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from saman.registry.store.manifest import UNCOVERED, FileRecord
from saman.runs.files import disk


class DamageKind(str, Enum):
    """The kinds of damage that ``verify`` reports."""

    AUDIT_LOG = "audit log"
    INTERRUPTED_ARRIVAL = "interrupted arrival"
    INTERRUPTED_REMOVAL = "interrupted removal"
    MISSING_FOLDER = "missing folder"
    UNKNOWN_FOLDER = "unknown folder"
    MANIFEST = "manifest"
    MISSING_FILE = "missing file"
    CHANGED_FILE = "changed file"
    ADDED_FILE = "added file"
    UNREADABLE_FILE = "unreadable file"
    SIGNATURE = "signature"
    POLICY = "policy"
    SERVING_CONFIG = "serving config"


@dataclass(frozen=True)
class Damage:
    """A difference from the published state. ``version`` is 0 where the whole model is concerned."""

    model: str
    version: int
    path: str
    problem: str
    kind: DamageKind

    def __str__(self) -> str:
        place = f"{self.model} version {self.version}" if self.version else self.model
        return f"{place}: {self.path}: {self.problem}" if self.path else f"{place}: {self.problem}"


@dataclass(frozen=True)
class FileDamage:
    """Damage of a file, by its path inside the version."""

    path: str
    problem: str
    kind: DamageKind

    def of(self, model: str, version: int) -> Damage:
        """The damage as that of a version."""
        return Damage(model=model, version=version, path=self.path, problem=self.problem, kind=self.kind)


def find_changed_files(folder: Path, expected: Mapping[str, FileRecord]) -> Iterator[FileDamage]:
    """Yield the damage of a published version: every file that is missing, changed or added."""
    for name, record in sorted(expected.items()):
        if damage := _check_file(folder / name, name, record):
            yield damage
    known = set(expected) | UNCOVERED
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if name not in known and not stat.S_ISDIR(file.lstat().st_mode):
            yield FileDamage(name, "this file was added", DamageKind.ADDED_FILE)


def _check_file(file: Path, name: str, record: FileRecord) -> FileDamage | None:
    try:
        mode = file.lstat().st_mode
    except OSError:
        return FileDamage(name, "the file is missing", DamageKind.MISSING_FILE)
    if not stat.S_ISREG(mode):
        return FileDamage(name, "it is no longer a plain file", DamageKind.CHANGED_FILE)
    try:
        size = file.stat().st_size
        if size != record.bytes:
            return FileDamage(name, f"it has {size} bytes instead of {record.bytes}", DamageKind.CHANGED_FILE)
        if disk.digest_file(file).sha256 == record.sha256:
            return None
        return FileDamage(name, "its content has changed", DamageKind.CHANGED_FILE)
    except OSError as error:
        return FileDamage(name, f"it cannot be read: {error.strerror}", DamageKind.UNREADABLE_FILE)
