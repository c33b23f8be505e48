"""The manifest of a version: digests of its files, the run that trained it, its metrics, its publisher."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from saman.configs.errors import UserError
from saman.configs.regular_files import read_regular
from saman.registry.store import protobuf
from saman.registry.store.layout import MANIFEST, SIGNATURE, check_relative_path
from saman.runs.files import disk
from saman.runs.files.whole import parse_json
from saman.runs.records.export import Signature
from saman.runs.records.provenance import Provenance

SCHEMA = 1
UNCOVERED = frozenset({MANIFEST, SIGNATURE})  # files without a digest in the manifest


class _ManifestPart(BaseModel):
    # A later saman of the same schema may add fields; they are kept and ignored.
    model_config = ConfigDict(extra="allow", frozen=True)


class FileRecord(_ManifestPart):
    """Digest and size of a file."""

    sha256: str
    bytes: int


class ManifestRun(_ManifestPart):
    """The run that trained the version."""

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

    @property
    def commit(self) -> str:
        """The git commit of the code; empty where it is unknown."""
        git = Provenance.from_json(self.provenance).git
        return git.commit if git else ""

    @property
    def has_uncommitted_changes(self) -> bool:
        """Whether the code differed from the commit."""
        git = Provenance.from_json(self.provenance).git
        return git is not None and git.dirty


class GateRecord(_ManifestPart):
    """The decision of a gate at publication; ``facts`` are the measured values by name, for people and audits."""

    gate: str
    passed: bool
    outcome: str = ""
    text: str = ""
    facts: dict[str, Any] = {}


class Manifest(_ManifestPart):
    """The content of ``assets.extra/saman.json``. Times are Unix seconds, sizes bytes."""

    schema_: int = SCHEMA
    model: str
    version: int
    published_at: float
    published_by: str
    why: str = ""
    files: dict[str, FileRecord]
    fingerprint: dict[str, int | str] = {}
    signature: Signature = Signature()
    metrics: dict[str, float] = {}
    run: ManifestRun
    data: dict[str, Any] = {}
    statistics: Any = None
    versions: dict[str, Any] = {}
    export: dict[str, Any] = {}
    tuning: dict[str, Any] = {}  # the evidence of a tuning study (``runs.tuning.evidence``)
    gates: list[GateRecord] = []

    @property
    def total_bytes(self) -> int:
        """The size of the version's files."""
        return sum(record.bytes for record in self.files.values())

    def to_json(self) -> dict[str, Any]:
        """Plain values, schema first."""
        plain = self.model_dump(mode="json")
        return {"schema": plain.pop("schema_"), **plain}


def parse(text: bytes, where: str) -> Manifest:
    """Parse a manifest.

    Raises:
        UserError: It is damaged, of a newer schema, or lists a path outside the version's folder.
    """
    try:
        value = parse_json(text)
    except ValueError:
        value = None
    if not isinstance(value, Mapping) or not isinstance(value.get("schema"), int):
        raise UserError("this is not a manifest", where=where, remedy="saman models verify lists all damage")
    if value["schema"] > SCHEMA:
        problem = f"a newer saman wrote this manifest (schema {value['schema']}; supported up to {SCHEMA})"
        raise UserError(problem, where=where, remedy="update saman")
    plain = {("schema_" if key == "schema" else key): item for key, item in value.items()}
    try:
        manifest = Manifest.model_validate(plain)
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise UserError(f"the manifest's {place} is missing or has the wrong type", where=where) from None
    for path in manifest.files:
        check_relative_path(path, where)
    return manifest


def read(folder: Path) -> Manifest:
    """Read the manifest of the version in ``folder``; raises ``UserError`` where it is missing or damaged."""
    file = folder / MANIFEST
    try:
        return parse(read_regular(file), str(file))
    except OSError as error:
        problem = f"the manifest cannot be read: {error.strerror}"
        raise UserError(problem, where=str(file), remedy="saman models verify lists all damage") from error


def file_records(folder: Path) -> dict[str, FileRecord]:
    """Digest and size of every file of a version, except manifest and signature."""
    found = {}
    for relative in disk.regular_files(folder):
        if relative.as_posix() not in UNCOVERED:
            digest = disk.digest_file(folder / relative)
            found[relative.as_posix()] = FileRecord(sha256=digest.sha256, bytes=digest.bytes)
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
    """Read the SavedModel's fingerprint for the manifest (``fingerprint.pb``); empty where TensorFlow wrote none."""
    try:
        data = (saved_model / "fingerprint.pb").read_bytes()
        pairs = [(_FINGERPRINT[number], value) for number, value in protobuf.fields(data) if number in _FINGERPRINT]
    except (OSError, ValueError):
        return {}
    return {name: value.decode(errors="replace") if isinstance(value, bytes) else value for name, value in pairs}
