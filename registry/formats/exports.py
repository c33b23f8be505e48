"""Exports versions to other formats, each checked in its own runtime before anybody can take it.

A version's files are converted by one process and the result answers the version's stored validation sample in
another; what differs, how accurate, how large and how fast it is is stored beside it. It appears by one rename.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from saman.configs.errors import UserError, choices
from saman.configs.files import read_json, write_json
from saman.configs.names import size
from saman.registry.evaluation import converter_process
from saman.registry.evaluation.converter_process import LITERT, ONNX, TFJS, Overlay, Say, silent
from saman.registry.evaluation.gates import predictions
from saman.registry.evaluation.paired_comparison import is_classification, right
from saman.registry.lifecycle.reconcile import awaited, settle
from saman.registry.listing import resolve
from saman.registry.store import audit_log, disk, manifest
from saman.registry.store.audit_log import Entry
from saman.registry.store.layout import VALIDATION, ModelFolder
from saman.registry.store.model_state import ModelState, fold

FORMATS: dict[str, Overlay | None] = {
    "saved_model": None,
    "keras": None,
    "tflite-float32": LITERT,
    "tflite-float16": LITERT,
    "tflite-dynamic": LITERT,
    "tflite-int8": LITERT,
    "onnx": ONNX,
    "tfjs": TFJS,
}
TOLERANCE = 0.01  # of accuracy, either way


class ConversionRefused(UserError):  # noqa: N818  (a decision, not a fault)
    """The conversion worked, but its result answers differently."""


@dataclass(frozen=True)
class Parity:
    """How a converted model compares with its version on the stored sample."""

    format: str
    runtime: str
    converter: str
    examples: int
    max_difference: float
    accuracy: float | None
    version_accuracy: float | None
    bytes: int
    version_bytes: int
    latency_milliseconds: float | None
    version_latency_milliseconds: float | None
    note: str = ""


def export(
    models_dir: Path,
    spec: str,
    format_name: str,
    *,
    tolerance: float = TOLERANCE,
    why: str = "",
    who: str | None = None,
    say: Say = silent,
) -> tuple[Path, Parity]:
    """Convert a version and check the result; returns where it lies and how it compares.

    Raises ``ConversionRefused`` where its accuracy differs by more than ``tolerance`` or an answer is not finite,
    ``UserError`` where the converter fails, ``EnvironmentLack`` where something is missing; then nothing has changed.
    """
    return next(export_all(models_dir, spec, [format_name], tolerance=tolerance, why=why, who=who, say=say))()


def export_all(
    models_dir: Path,
    spec: str,
    names: Iterable[str],
    *,
    tolerance: float = TOLERANCE,
    why: str = "",
    who: str | None = None,
    say: Say = silent,
) -> Iterator[Callable[[], tuple[Path, Parity]]]:
    """For each format what does it, as ``export`` would; the version itself is asked only once."""
    if not 0 <= tolerance <= 1:
        raise UserError(f"a tolerance of {tolerance} is none", remedy="a part of the accuracy, 0 to 1")
    folder, _, one = resolve(models_dir, spec)
    version = folder.version(one.number)
    if not (version / VALIDATION).is_file():
        raise UserError("the version holds no validation sample to be checked with", where=str(version))
    expected = cache(lambda: predictions([version], version / VALIDATION))
    for name in names:
        yield partial(_export, folder, one.number, name, expected, tolerance, why, who or audit_log.me(), say)


Answers = Callable[[], tuple[list[np.ndarray[Any, Any]], list[dict[str, Any]]]]


def _export(
    folder: ModelFolder,
    number: int,
    format_name: str,
    expected: Answers,
    tolerance: float,
    why: str,
    who: str,
    say: Say,
) -> tuple[Path, Parity]:
    if format_name not in FORMATS:
        raise UserError(f"the format {format_name!r} is unknown", remedy=choices(format_name, FORMATS))
    with disk.explained(folder.path, "the models folder"):
        folder.staging.mkdir(parents=True, exist_ok=True)
        staged = folder.staging / disk.token()
        try:
            parity = _converted(folder, number, format_name, staged, expected, say)
            _refuse(parity, tolerance)
            return _visible(folder, number, format_name, staged, parity, why, who), parity
        finally:
            disk.remove_tree(staged)


def _converted(
    folder: ModelFolder, number: int, name: str, staged: Path, answers_of_version: Answers, say: Say
) -> Parity:
    version = folder.version(number)
    stored = version / VALIDATION
    say(f"converting {folder.name} version {number} to {name}")
    arguments = ["--model", str(version), "--output", str(staged / name), "--inputs", str(stored)]
    made = converter_process.call(["to", name, *arguments], FORMATS[name], say=say)
    [expected], [report] = answers_of_version()
    total = sum(one.stat().st_size for one in staged.rglob("*") if one.is_file())
    whole = manifest.read(version).total_bytes
    if name == "keras" and (recorded := _of_the_trainer(version)) is not None:
        labels = _labels(stored)
        accuracy = _accuracy(expected, labels)
        note = "takes normalised inputs, so it was checked by the trainer that wrote it"
        latency = report["latency_milliseconds"]
        return Parity(
            name,
            "Keras",
            made["converter"],
            len(expected),
            recorded,
            accuracy,
            accuracy,
            total,
            whole,
            None,
            latency,
            note,
        )
    answers = staged / "answers.npy"
    arguments = ["--model", str(staged / name), "--output", str(answers), "--inputs", str(stored)]
    ran = converter_process.call(["run", name, *arguments], FORMATS[name], say=say)
    found = np.load(answers, allow_pickle=False)
    answers.unlink()
    return _parity(name, made, ran, found, expected, report, _labels(stored), total, whole)


def _parity(
    name: str,
    made: Mapping[str, Any],
    ran: Mapping[str, Any],
    found: np.ndarray[Any, Any],
    expected: np.ndarray[Any, Any],
    report: Mapping[str, Any],
    labels: np.ndarray[Any, Any],
    total: int,
    whole: int,
) -> Parity:
    if found.shape != expected.shape:
        raise ConversionRefused(f"the {name} model answers with shape {found.shape} instead of {expected.shape}")
    if not np.isfinite(found[np.isfinite(expected)]).all():
        raise ConversionRefused(f"the {name} model answers with numbers that are not finite")
    difference = np.abs(found.astype("float64") - expected.astype("float64"))
    calibrated = f"calibrated on {made['calibration_examples']} of them" if "calibration_examples" in made else ""
    return Parity(
        format=name,
        runtime=str(ran["runtime"]),
        converter=str(made["converter"]),
        examples=len(found),
        max_difference=float(np.nanmax(difference)) if difference.size else 0.0,
        accuracy=_accuracy(found, labels),
        version_accuracy=_accuracy(expected, labels),
        bytes=total,
        version_bytes=whole,
        latency_milliseconds=ran["latency_milliseconds"],
        version_latency_milliseconds=report["latency_milliseconds"],
        note=calibrated,
    )


def _of_the_trainer(version: Path) -> float | None:
    """The Keras file's difference that the trainer measured, where raw inputs cannot be given to it."""
    about = manifest.read(version).export
    differences = about.get("max_difference")
    if str(about.get("normalization", "none")) == "none" or not isinstance(differences, dict):
        return None
    return float(differences["keras"])


def _labels(stored: Path) -> np.ndarray[Any, Any]:
    with np.load(stored, allow_pickle=False) as sample:
        return np.asarray(sample["labels"])


def _accuracy(answers: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> float | None:
    return float(right(answers, labels).mean()) if is_classification(answers, labels) else None


def _refuse(parity: Parity, tolerance: float) -> None:
    if parity.accuracy is None or parity.version_accuracy is None:
        return
    change = parity.accuracy - parity.version_accuracy
    if abs(change) > tolerance + 1e-12:
        raise ConversionRefused(
            f"{parity.format} has accuracy {parity.accuracy:.4g} where the version has {parity.version_accuracy:.4g}",
            remedy=f"allowed is a change of {tolerance:g}; --tolerance sets another",
        )


def _visible(folder: ModelFolder, number: int, name: str, staged: Path, parity: Parity, why: str, who: str) -> Path:
    """Write the record, enter it into the audit log, and make the folder visible (registry/settle.py)."""
    record = {
        "schema": 1,
        "model": folder.name,
        "version": number,
        "time": round(time.time(), 3),
        "parity": asdict(parity),
        "files": {path: one.model_dump() for path, one in manifest.file_records(staged / name).items()},
    }
    write_json(staged / name / "saman.json", record)
    sealed = disk.digest(staged / name / "saman.json").sha256
    ready = folder.staging / disk.token()
    (staged / name).rename(ready)
    disk.sync_folders(ready)
    disk.sync(folder.staging)

    def decide(entries: list[Entry]) -> tuple[str, Mapping[str, Any]] | None:
        fold(folder.name, entries).version(number)  # raises where it was pruned meanwhile
        facts = {"version": number, "format": name, "manifest": sealed, "staging": ready.name}
        return "export", {**facts, **_figures(parity)}

    try:
        entries = audit_log.change(folder.log, decide, why=why, who=who)
    except BaseException:
        if ready.name not in awaited(fold(folder.name, audit_log.read(folder.log))):
            disk.remove_tree(ready)
        raise
    settle(folder, entries)
    return folder.format(number, name)


def _figures(parity: Parity) -> dict[str, Any]:
    return {"max_difference": parity.max_difference, "accuracy": parity.accuracy, "bytes": parity.bytes}


def exports_of(folder: ModelFolder, state: ModelState, number: int) -> list[dict[str, Any]]:
    """The stored record of every format of a version."""
    names = state.versions[number].formats
    found = [read_json(folder.format(number, name) / "saman.json") for name in sorted(names)]
    return [one for one in found if isinstance(one, dict)]


def parity_table(rows: list[Parity]) -> Any:
    """Parities for a terminal."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("format", "runtime", "max difference", "accuracy", "version's", "size", "latency", "note"):
        left = heading in ("format", "runtime", "note")
        table.add_column(heading, justify="left" if left else "right", no_wrap=heading == "format")
    for one in rows:
        accuracies = ["" if each is None else f"{each:.4f}" for each in (one.accuracy, one.version_accuracy)]
        taken = "" if one.latency_milliseconds is None else f"{one.latency_milliseconds:.3f} ms"
        cells = (one.format, one.runtime, f"{one.max_difference:.3g}", *accuracies, size(one.bytes), taken, one.note)
        table.add_row(*cells)
    return table
