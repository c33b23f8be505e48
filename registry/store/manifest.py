"""The manifest of a version: what its files hold, what made it, how good it is, who published it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from saman.configs.errors import UserError
from saman.registry.store import disk, protobuf
from saman.registry.store.layout import MANIFEST, SIGNATURE, safe_relative

SCHEMA = 1
UNCOVERED = frozenset({MANIFEST, SIGNATURE})  # files that no manifest can hold the digest of


class _Part(BaseModel):
    # A later saman of the same schema may add facts; they are kept and passed over.
    model_config = ConfigDict(extra="allow", frozen=True)


class FileRecord(_Part):
    """What a file of the version holds."""

    sha256: str
    bytes: int


class RunRecord(_Part):
    """The training that made the version."""

    id: str
    folder: str
    host: str
    experiment: dict[str, Any] | None = None
    experiment_digest: str | None = None
    strategy: str | None = None
    ranks: int | None = None
    seed: int | None = None
    attempts: int = 1
    hosts: list[str] = []
    provenance: dict[str, Any] = {}


class Manifest(_Part):
    """The content of ``assets.extra/saman.json``. Times are Unix seconds, sizes bytes."""

    schema_: int = SCHEMA
    model: str
    version: int
    published_at: float
    published_by: str
    why: str = ""
    files: dict[str, FileRecord]
    fingerprint: dict[str, int | str] = {}
    signature: dict[str, Any] = {}
    metrics: dict[str, float] = {}
    run: RunRecord
    data: dict[str, Any] = {}
    statistics: Any = None
    versions: dict[str, Any] = {}
    export: dict[str, Any] = {}
    gates: list[dict[str, Any]] = []

    @property
    def total_bytes(self) -> int:
        """The size of the version's files."""
        return sum(one.bytes for one in self.files.values())

    def to_json(self) -> dict[str, Any]:
        """Plain values, schema first."""
        plain = self.model_dump(mode="json")
        return {"schema": plain.pop("schema_"), **plain}


def parse(text: bytes, where: str) -> Manifest:
    """The manifest in a file; raises ``UserError`` for a damaged one, a newer schema or a path that leads out."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, Mapping) or not isinstance(value.get("schema"), int):
        raise UserError("this is not a manifest", where=where, remedy="saman models verify names all damage")
    if value["schema"] > SCHEMA:
        problem = f"this manifest was written by a newer saman (schema {value['schema']}, known here up to {SCHEMA})"
        raise UserError(problem, where=where, remedy="use that saman")
    plain = {("schema_" if key == "schema" else key): item for key, item in value.items()}
    try:
        manifest = Manifest.model_validate(plain)
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise UserError(f"the manifest's {place} is missing or of another kind", where=where) from None
    for path in manifest.files:
        safe_relative(path, where)
    return manifest


def read(folder: Path) -> Manifest:
    """The manifest of the version in ``folder``; raises ``UserError`` where it is missing or damaged."""
    file = folder / MANIFEST
    try:
        return parse(file.read_bytes(), str(file))
    except OSError as error:
        problem = f"the manifest cannot be read: {error.strerror}"
        raise UserError(problem, where=str(file), remedy="saman models verify names all damage") from error


def file_records(folder: Path) -> dict[str, FileRecord]:
    """Digest and size of every file of a version but the manifest itself."""
    found = {}
    for relative in disk.regular_files(folder):
        if relative.as_posix() not in UNCOVERED:
            one = disk.digest(folder / relative)
            found[relative.as_posix()] = FileRecord(sha256=one.sha256, bytes=one.bytes)
    return found


# tensorflow/core/protobuf/fingerprint.proto
_FINGERPRINT = {
    1: "saved_model_checksum",
    2: "graph_def_program_hash",
    3: "signature_def_hash",
    4: "saved_object_graph_hash",
    5: "checkpoint_hash",
    7: "uuid",
}


def fingerprint(saved_model: Path) -> dict[str, int | str]:
    """The SavedModel's own fingerprint (``fingerprint.pb``); empty where TensorFlow wrote none."""
    try:
        data = (saved_model / "fingerprint.pb").read_bytes()
        pairs = [(_FINGERPRINT[number], value) for number, value in protobuf.fields(data) if number in _FINGERPRINT]
    except (OSError, ValueError):
        return {}
    return {name: value.decode(errors="replace") if isinstance(value, bytes) else value for name, value in pairs}
