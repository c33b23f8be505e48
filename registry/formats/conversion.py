"""Converts a version to other formats; each result is checked in its own runtime before it becomes visible.

A converter process writes the files; another answers the stored validation sample with them. The parity is stored
beside the files. The log records the conversion, and one rename makes it visible.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from saman.configs.errors import UserError, choices
from saman.configs.schemas.policy import Loading
from saman.registry.evaluation import converter_process
from saman.registry.evaluation.answers import SampleAnswers, answer_sample
from saman.registry.evaluation.converter_packages import LITERT, ONNX, TFJS, ConverterPackages, Say, discard_message
from saman.registry.formats.parity import (
    ConvertedModel,
    Parity,
    measure_accuracy,
    measure_parity,
    read_labels,
    require_parity,
)
from saman.registry.lifecycle.reconcile import awaited, reconcile, try_reconcile
from saman.registry.store import audit_log, manifest
from saman.registry.store.audit_decisions import AuditDecision, ExportDecision
from saman.registry.store.audit_entry import Entry
from saman.registry.store.layout import VALIDATION, ModelFolder, find_model, parse_spec
from saman.registry.store.model_state import read_model, replay
from saman.registry.store.policies import read_policy
from saman.runs.files import disk
from saman.runs.files.whole import write_json
from saman.runs.files.write_errors import MODELS_OPTION, explain_write_errors
from saman.runs.records.export import ExportRecord, Normalization

FORMATS: dict[str, ConverterPackages | None] = {
    "saved_model": None,
    "keras": None,
    "tflite-float32": LITERT,
    "tflite-float16": LITERT,
    "tflite-dynamic": LITERT,
    "tflite-int8": LITERT,
    "onnx": ONNX,
    "tfjs": TFJS,
}
TOLERANCE = 0.01  # of accuracy, in either direction


@dataclass(frozen=True)
class ConversionRequest:
    """The conversion of a version to a format. ``expected`` returns the version's answers, computed once."""

    folder: ModelFolder
    number: int
    format: str
    expected: Callable[[], SampleAnswers]
    tolerance: float
    why: str
    who: str
    say: Say
    loading: Loading = Loading()

    @property
    def version(self) -> Path:
        """The folder of the version."""
        return self.folder.version(self.number)

    @property
    def sample(self) -> Path:
        """The stored validation sample."""
        return self.version / VALIDATION


def export(
    models_dir: Path,
    spec: str,
    format_name: str,
    *,
    tolerance: float = TOLERANCE,
    why: str = "",
    who: str | None = None,
    say: Say = discard_message,
) -> tuple[Path, Parity]:
    """Convert a version to another format and check the result.

    Args:
        models_dir: The models folder.
        spec: ``NAME``, ``NAME:VERSION`` or ``NAME:LABEL``; a name alone means the stable version, else the newest.
        format_name: A key of ``FORMATS``.
        tolerance: The allowed change of the accuracy.
        why: The reason, for the log.
        who: The author, for the log; default: the user of this process.
        say: Receives progress messages.

    Returns:
        The folder of the converted files, and their parity.

    Raises:
        ConversionRefusal: The converted model answers differently. As after every error, nothing has changed.
        UserError: The version or format is unknown, or the converter failed.
        EnvironmentLack: A package is missing.
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
    say: Say = discard_message,
) -> Iterator[Callable[[], tuple[Path, Parity]]]:
    """Yield, for each format, a function that does what ``export`` does; the version answers its sample only once.

    ``names`` are keys of ``FORMATS``; the other arguments are those of ``export``.

    Raises:
        UserError: The version or its validation sample is missing, or the tolerance is not between 0 and 1.
    """
    if not 0 <= tolerance <= 1:
        raise UserError(f"the tolerance {tolerance:g} is out of range", remedy="0 to 1, as a difference of accuracies")
    parsed = parse_spec(spec)
    folder = find_model(models_dir, parsed.name)
    number = try_reconcile(folder).find(parsed).number
    version = folder.version(number)
    if not (version / VALIDATION).is_file():
        raise UserError("the version has no validation sample to check a conversion with", where=str(version))
    loading = read_policy(folder).loading
    expected = cache(lambda: answer_sample([version], version / VALIDATION, loading)[0])
    for name in names:
        request = ConversionRequest(
            folder=folder,
            number=number,
            format=name,
            expected=expected,
            tolerance=tolerance,
            why=why,
            who=who or audit_log.current_user(),
            say=say,
            loading=loading,
        )
        yield partial(_export, request)


def _export(request: ConversionRequest) -> tuple[Path, Parity]:
    folder = request.folder
    if request.format not in FORMATS:
        raise UserError(f"the format {request.format!r} is unknown", remedy=choices(request.format, FORMATS))
    with explain_write_errors(folder.path, "the models folder", MODELS_OPTION):
        folder.staging.mkdir(parents=True, exist_ok=True)
        staged = folder.staging / disk.unique_name()
        try:
            parity = _convert(request, staged)
            require_parity(parity, request.tolerance)
            return _enter(request, staged, parity), parity
        finally:
            disk.remove_tree(staged)


def _convert(request: ConversionRequest, staged: Path) -> Parity:
    name, converted = request.format, staged / request.format
    request.say(f"converting {request.folder.name} version {request.number} to {name}")
    arguments = ["--model", str(request.version), "--output", str(converted), "--inputs", str(request.sample)]
    report = converter_process.run_converter(
        ["to", name, *arguments], FORMATS[name], loading=request.loading, say=request.say
    )
    model = ConvertedModel(
        format=name,
        converter=report.conversion.converter,
        bytes=sum(file.stat().st_size for file in staged.rglob("*") if file.is_file()),
        version_bytes=manifest.read(request.version).total_bytes,
        calibration_examples=report.conversion.calibration_examples,
    )
    if name == "keras" and (recorded := _recorded_difference(request.version)) is not None:
        return _recorded_parity(request, model, recorded)
    answers = staged / "answers.npy"
    arguments = ["--model", str(converted), "--output", str(answers), "--inputs", str(request.sample)]
    report = converter_process.run_converter(
        ["run", name, *arguments], FORMATS[name], loading=request.loading, say=request.say
    )
    [ran] = report.answers
    found = SampleAnswers.read(answers, ran.latency_milliseconds)
    return measure_parity(model, ran.runtime, found, request.expected(), read_labels(request.sample))


def _recorded_difference(version: Path) -> float | None:
    """The Keras file's difference as the trainer measured it; ``None`` where it can be measured on the stored sample.

    That is where the file takes raw inputs and has a single output: the names of several are the model's own.
    """
    described = manifest.read(version)
    exported = ExportRecord.from_json(described.export)
    if exported.normalization is Normalization.NONE and len(described.signature.outputs) == 1:
        return None
    if "keras" not in exported.max_difference:
        return None
    return float(exported.max_difference["keras"])


def _recorded_parity(request: ConversionRequest, model: ConvertedModel, difference: float) -> Parity:
    """The parity of a Keras file that takes normalised inputs, which the stored sample does not hold."""
    expected = request.expected()
    accuracy = measure_accuracy(expected.values, read_labels(request.sample))
    return Parity(
        format=model.format,
        runtime="Keras",
        converter=model.converter,
        examples=len(expected.values),
        max_difference=difference,
        accuracy=accuracy,
        version_accuracy=accuracy,
        bytes=model.bytes,
        version_bytes=model.version_bytes,
        latency_milliseconds=None,
        version_latency_milliseconds=expected.latency_milliseconds,
        note="takes normalised inputs; the trainer compared it at export",
    )


def _enter(request: ConversionRequest, staged: Path, parity: Parity) -> Path:
    """Write the record, enter it into the audit log, and make the folder visible."""
    folder, number, name = request.folder, request.number, request.format
    digest = _write_record(request, staged / name, parity)
    ready = folder.staging / disk.unique_name()
    (staged / name).rename(ready)
    disk.sync_folders(ready)
    disk.sync_path(folder.staging)

    def decide(entries: list[Entry]) -> AuditDecision:
        replay(folder.name, entries).version(number)  # raises where the version was pruned meanwhile
        return ExportDecision(
            version=number,
            format=name,
            manifest=digest,
            staging=ready.name,
            max_difference=parity.max_difference,
            accuracy=parity.accuracy,
            bytes=parity.bytes,
        )

    try:
        entries = audit_log.append_change(folder.log, decide, why=request.why, who=request.who)
    except BaseException:
        if ready.name not in awaited(read_model(folder)):
            disk.remove_tree(ready)
        raise
    reconcile(folder, entries)
    return folder.format(number, name)


def _write_record(request: ConversionRequest, converted: Path, parity: Parity) -> str:
    """Write ``saman.json`` beside the converted files; returns its SHA-256."""
    files = manifest.file_records(converted)
    record = {
        "schema": 1,
        "model": request.folder.name,
        "version": request.number,
        "time": round(time.time(), 3),
        "parity": parity.to_json(),
        "files": {path: file.model_dump() for path, file in files.items()},
    }
    write_json(converted / "saman.json", record)
    return disk.digest_file(converted / "saman.json").sha256
