"""Puts a version together in ``staging/``: links the exported files into TensorFlow Serving's layout, adds warm-up."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

import numpy as np

from saman.registry.lifecycle.reconcile import awaited
from saman.registry.lifecycle.run_export import run_record
from saman.registry.lifecycle.warmup import warmup_file
from saman.registry.store import manifest
from saman.registry.store.layout import KERAS_FILE, VALIDATION, WARMUP, ModelFolder
from saman.registry.store.manifest import Manifest
from saman.registry.store.model_state import read_model
from saman.runs.files import disk
from saman.runs.folder import RunFolder
from saman.runs.paths.parts import ExportPaths
from saman.runs.records.export import ExportRecord
from saman.runs.tuning.evidence import TuningEvidence

_WARMUP_EXAMPLES = 8
_STALE_SECONDS = 7 * 86400.0
_MANIFEST_KEYS = ("signature", "metrics", "data", "statistics", "versions")


def stage_version(
    run: RunFolder, folder: ModelFolder, staged: Path, exported: ExportRecord, *, why: str, who: str
) -> Manifest:
    """Fill a folder with the files of a version.

    Args:
        run: The run that trained the model.
        folder: The model.
        staged: The folder to fill.
        exported: The record of the run's export.
        why: The reason, for the manifest.
        who: The author, for the manifest.

    Returns:
        The version's manifest, still without a number.
    """
    saved_model = run.exported.saved_model
    places = {path.as_posix(): saved_model / path for path in disk.regular_files(saved_model)}
    places |= {place: file for place, file in _extra_files(run.exported).items() if file.is_file()}
    for relative, source in places.items():
        target = staged / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        disk.link_or_copy(source, target)
    (staged / "assets.extra").mkdir(exist_ok=True)
    warmup = _warmup_requests(folder.name, exported, staged)
    if warmup:
        (staged / WARMUP).write_bytes(warmup)
        disk.sync_path(staged / WARMUP)
    evidence = TuningEvidence.read(run.tuning_file)
    return Manifest(
        model=folder.name,
        version=0,
        published_at=round(time.time(), 3),
        published_by=who,
        why=why,
        files=manifest.file_records(staged),
        fingerprint=manifest.fingerprint(staged),
        run=run_record(run),
        tuning=evidence.to_json() if evidence else {},
        **_manifest_fields(exported),
    )


def _extra_files(export: ExportPaths) -> dict[str, Path]:
    """Exported files beside the SavedModel, by their places in a version."""
    return {KERAS_FILE: export.keras_file, VALIDATION: export.validation}


def _manifest_fields(exported: ExportRecord) -> dict[str, Any]:
    """Fields of the export record by their names in the manifest; the rest of the record under ``export``."""
    plain = exported.to_json()
    known = {name: plain.pop(name) for name in _MANIFEST_KEYS if name in plain}
    return {**known, "export": plain}


def _warmup_requests(model: str, exported: ExportRecord, staged: Path) -> bytes:
    """Requests of real examples; empty for a model with several inputs or without a stored sample."""
    inputs = exported.signature.inputs
    if len(inputs) != 1 or not (staged / VALIDATION).is_file():
        return b""
    [(name, tensor)] = inputs.items()
    try:
        with np.load(staged / VALIDATION, allow_pickle=False) as stored:
            sample = stored[name][:_WARMUP_EXAMPLES].astype(tensor.dtype, copy=False)
        return warmup_file(model, exported.signature.name, name, sample)
    except (KeyError, TypeError, ValueError):
        return b""


def clear_export(run: RunFolder) -> None:
    """Remove the published files from ``export/``; ``export.json`` stays as the run's record."""
    with contextlib.suppress(OSError):  # another user's run keeps its files
        disk.remove_tree(run.exported.saved_model)
        for file in _extra_files(run.exported).values():
            file.unlink(missing_ok=True)


def sweep_staging(folder: ModelFolder) -> None:
    """Remove week-old staged folders that the log does not name: their publishers were killed."""
    known = awaited(read_model(folder))
    for left in folder.staging.iterdir():
        with contextlib.suppress(OSError):
            if left.name not in known and time.time() - left.stat().st_mtime > _STALE_SECONDS:
                disk.remove_tree(left)
