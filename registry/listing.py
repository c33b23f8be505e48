"""The content of ``saman models list``, ``show`` and ``log``, as typed values with ``to_json``. Reads only."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from saman.configs.errors import UserError
from saman.registry.lifecycle.reconcile import StepKind
from saman.registry.store import audit_log
from saman.registry.store.audit_entry import Entry
from saman.registry.store.layout import find_model, list_models
from saman.registry.store.manifest import Manifest
from saman.registry.store.model_state import Approval, FormatRecord, read_model
from saman.registry.versions import ModelVersion, find_version


@dataclass(frozen=True)
class VersionRow:
    """A version in the listing.

    ``metrics`` and ``bytes`` are ``None`` where the manifest is unreadable: then ``problem`` says why. ``pending`` is
    the step that reconciling would carry out, else ``None``.
    """

    model: str
    version: int
    labels: tuple[str, ...]
    status: str
    published_at: float
    published_by: str
    run: str
    approved_by: tuple[str, ...]
    formats: tuple[str, ...]
    path: Path
    metrics: dict[str, float] | None
    bytes: int | None
    problem: str = ""
    pending: StepKind | None = None

    def to_json(self) -> dict[str, Any]:
        """The row as plain values, without what is unknown."""
        row = {**asdict(self), "path": str(self.path)}
        row |= {name: list(row[name]) for name in ("labels", "approved_by", "formats")}
        if self.problem:
            del row["metrics"], row["bytes"]
        else:
            del row["problem"]
        return {**row, "pending": self.pending.value} if self.pending else {k: row[k] for k in row if k != "pending"}


@dataclass(frozen=True)
class VersionDetails:
    """Everything known of a version."""

    row: VersionRow
    approvals: tuple[Approval, ...]
    exports: dict[str, FormatRecord]
    manifest: Manifest

    def to_json(self) -> dict[str, Any]:
        """The details as plain values."""
        return {
            **self.row.to_json(),
            "approvals": [asdict(approval) for approval in self.approvals],
            "exports": {name: record.to_json() for name, record in self.exports.items()},
            "manifest": self.manifest.to_json(),
        }


@dataclass(frozen=True)
class DamagedModel:
    """A model that cannot be listed, and why."""

    model: str
    problem: str


@dataclass(frozen=True)
class Listing:
    """Every version with files, by model and number, and the models with a damaged log."""

    rows: list[VersionRow]
    damaged: list[DamagedModel]


def read_listing(models_dir: Path) -> Listing:
    """List every version of every model; a damaged model does not hide the others."""
    listing = Listing([], [])
    for folder in list_models(models_dir):
        try:
            state = read_model(folder)
        except (UserError, OSError) as error:
            problem = error.one_line() if isinstance(error, UserError) else str(error)
            listing.damaged.append(DamagedModel(folder.name, problem))
            continue
        listing.rows.extend(_row(ModelVersion(folder, state, record)) for record in state.present())
    return listing


def list_versions(models_dir: Path) -> list[VersionRow]:
    """List every version with files, by model and number, of all models with a sound log."""
    return read_listing(models_dir).rows


def _row(version: ModelVersion) -> VersionRow:
    record, about, problem = version.record, None, ""
    pending = StepKind.VERSION_ARRIVAL if version.in_staging else None
    try:
        about = version.read_manifest()
    except UserError as error:
        problem = error.one_line()
    return VersionRow(
        model=version.folder.name,
        version=record.number,
        labels=tuple(version.state.labels_of(record.number)),
        status=record.status.value,
        published_at=record.time,
        published_by=record.who,
        run=record.run,
        approved_by=tuple(approval.by for approval in record.approvals),
        formats=tuple(sorted(record.formats)),
        path=version.path,
        metrics=about.metrics if about else None,
        bytes=about.total_bytes if about else None,
        problem=problem,
        pending=pending,
    )


def describe_version(models_dir: Path, text: str) -> VersionDetails:
    """Describe the version that ``NAME[:VERSION|:LABEL]`` means.

    Raises:
        UserError: There is no such version, or its manifest is damaged.
    """
    version = find_version(models_dir, text)
    about = version.read_manifest()
    return VersionDetails(_row(version), tuple(version.record.approvals), version.record.formats, about)


def read_history(models_dir: Path, name: str) -> list[Entry]:
    """Read the audit log of a model for a listing, oldest change first."""
    return audit_log.read(find_model(models_dir, name).log)
