"""Parity of a converted model with its version on the stored validation sample: difference, accuracy, size, latency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from saman.configs.errors import UserError
from saman.configs.units import format_bytes
from saman.registry.evaluation.answers import SampleAnswers
from saman.registry.evaluation.paired_comparison import Array, is_classification, mark_correct
from saman.registry.store.layout import ModelFolder
from saman.registry.store.model_state import VersionState
from saman.runs.files.whole import read_json


class ConversionRefusal(UserError):  # noqa: N818  (a decision, not a fault)
    """The conversion succeeded, but the converted model answers differently."""


@dataclass(frozen=True)
class Parity:
    """A converted model beside its version. Sizes are in bytes; ``None`` means not measured."""

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

    def to_json(self) -> dict[str, Any]:
        """The parity as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class ConvertedModel:
    """Facts of a conversion: its format, what converted it, and the sizes of result and version in bytes."""

    format: str
    converter: str
    bytes: int
    version_bytes: int
    calibration_examples: int | None = None


def measure_parity(
    model: ConvertedModel, runtime: str, found: SampleAnswers, expected: SampleAnswers, labels: Array
) -> Parity:
    """Compare the answers of a converted model with those of its version.

    Args:
        model: The converted model.
        runtime: The runtime that answered, with its version.
        found: The converted model's answers.
        expected: The version's answers.
        labels: The true labels of the sample.

    Raises:
        ConversionRefusal: The shapes differ, or an answer is not finite.
    """
    if found.values.shape != expected.values.shape:
        shapes = f"shape {found.values.shape} instead of {expected.values.shape}"
        raise ConversionRefusal(f"the {model.format} model answers with {shapes}")
    if not np.isfinite(found.values[np.isfinite(expected.values)]).all():
        raise ConversionRefusal(f"the {model.format} model answers with numbers that are not finite")
    difference = np.abs(found.values.astype("float64") - expected.values.astype("float64"))
    if expected.others is not None:
        difference = np.concatenate([difference.ravel(), _difference_of_others(model, found, expected).ravel()])
    calibrated = model.calibration_examples
    return Parity(
        format=model.format,
        runtime=runtime,
        converter=model.converter,
        examples=len(found.values),
        max_difference=float(np.nanmax(difference)) if difference.size else 0.0,
        accuracy=measure_accuracy(found.values, labels),
        version_accuracy=measure_accuracy(expected.values, labels),
        bytes=model.bytes,
        version_bytes=model.version_bytes,
        latency_milliseconds=found.latency_milliseconds,
        version_latency_milliseconds=expected.latency_milliseconds,
        note="" if calibrated is None else f"calibrated on {calibrated} of them",
    )


def _difference_of_others(model: ConvertedModel, found: SampleAnswers, expected: SampleAnswers) -> Array:
    """The differences of the outputs besides the first, whose accuracy is not known."""
    assert expected.others is not None
    if found.others is None or found.others.shape != expected.others.shape:
        shape = "none" if found.others is None else f"shape {found.others.shape}"
        raise ConversionRefusal(f"of further outputs the {model.format} model has {shape}, not {expected.others.shape}")
    if not np.isfinite(found.others[np.isfinite(expected.others)]).all():
        raise ConversionRefusal(f"the {model.format} model answers with numbers that are not finite")
    return np.asarray(np.abs(found.others.astype("float64") - expected.others.astype("float64")))


def measure_accuracy(answers: Array, labels: Array) -> float | None:
    """The accuracy of a converted classifier; ``None`` for a regression."""
    return float(mark_correct(answers, labels).mean()) if is_classification(answers, labels) else None


def require_parity(parity: Parity, tolerance: float) -> None:
    """Raise ``ConversionRefusal`` where the accuracy differs by more than ``tolerance``."""
    if parity.accuracy is None or parity.version_accuracy is None:
        return
    if abs(parity.accuracy - parity.version_accuracy) > tolerance + 1e-12:
        accuracies = f"accuracy {parity.accuracy:.4g}, the version has {parity.version_accuracy:.4g}"
        remedy = f"a change of {tolerance:g} is allowed; --tolerance sets another"
        raise ConversionRefusal(f"{parity.format} has {accuracies}", remedy=remedy)


def read_parities(folder: ModelFolder, version: VersionState) -> list[Parity]:
    """Read the stored parity of every format of a version, by format name."""
    known = {field.name for field in fields(Parity)}
    found = []
    for name in sorted(version.formats):
        record = read_json(folder.format(version.number, name) / "saman.json")
        if isinstance(record, dict) and isinstance(record.get("parity"), dict):
            found.append(Parity(**{key: value for key, value in record["parity"].items() if key in known}))
    return found


def read_labels(sample: Path) -> Array:
    """Read the true labels of the sample that measures the parity of a converted format."""
    with np.load(sample, allow_pickle=False) as stored:
        return np.asarray(stored["labels"])


def parity_table(rows: Sequence[Parity]) -> Any:
    """The parity of formats as a table for a terminal."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("format", "runtime", "max difference", "accuracy", "version's", "size", "latency", "note"):
        left = heading in ("format", "runtime", "note")
        table.add_column(heading, justify="left" if left else "right", no_wrap=heading == "format")
    for row in rows:
        accuracies = ["" if value is None else f"{value:.4f}" for value in (row.accuracy, row.version_accuracy)]
        latency = "" if row.latency_milliseconds is None else f"{row.latency_milliseconds:.3f} ms"
        difference = f"{row.max_difference:.3g}"
        table.add_row(row.format, row.runtime, difference, *accuracies, format_bytes(row.bytes), latency, row.note)
    return table
