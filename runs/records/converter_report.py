"""What the converter process of the registry reports: the result of a conversion, answers to a sample, or a failure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from saman.runs.files.whole import write_json
from saman.runs.records.schema import integer, mapping, number, read_record, text


@dataclass(frozen=True)
class Conversion:
    """A conversion to another format.

    Attributes:
        converter: Name and version of the converter.
        calibration_examples: Number of examples that a calibrated format was given.
    """

    converter: str = ""
    calibration_examples: int | None = None


@dataclass(frozen=True)
class AnswerReport:
    """How a model answered the stored sample; the answers themselves are in a file of their own.

    Attributes:
        examples: Number of answers.
        shape: Shape of all answers together.
        latency_milliseconds: Median wall time of a call for a single example; ``None`` if not measured.
        runtime: Name and version of the runtime; empty for TensorFlow's own answers.
    """

    examples: int
    shape: tuple[int, ...]
    latency_milliseconds: float | None
    runtime: str = ""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> AnswerReport:
        """Take the report out of plain values."""
        shape, latency = tuple(value.get("shape") or ()), number(value.get("latency_milliseconds"))
        return cls(integer(value.get("examples")) or 0, shape, latency, text(value.get("runtime")) or "")


@dataclass(frozen=True)
class ConverterReport:
    """The report of a converter process.

    Attributes:
        conversion: Of the command ``to``.
        answers: Of the commands ``predict`` (for each model) and ``run`` (for the converted model).
        lacks: A missing package; the command failed.
        problem: The reason of any other failure.
    """

    conversion: Conversion = field(default_factory=Conversion)
    answers: tuple[AnswerReport, ...] = ()
    lacks: str | None = None
    problem: str | None = None

    @property
    def failed(self) -> bool:
        """Whether the command failed."""
        return self.lacks is not None or self.problem is not None

    def write(self, path: Path) -> None:
        """Put the report at ``path``, whole."""
        write_json(path, {"schema": 1, **asdict(self)})

    @classmethod
    def read(cls, path: Path) -> ConverterReport | None:
        """Read the report at ``path``; ``None`` if there is none. Raises ``NewerSchema``."""
        value = read_record(path)
        if value is None:
            return None
        made = mapping(value.get("conversion"))
        return cls(
            Conversion(text(made.get("converter")) or "", integer(made.get("calibration_examples"))),
            tuple(AnswerReport.from_json(mapping(answer)) for answer in value.get("answers") or ()),
            text(value.get("lacks")),
            text(value.get("problem")),
        )


def others_beside(output: Path) -> Path:
    """Return the file of the outputs besides the first, beside that of the first.

    >>> others_beside(Path("/tmp/0.npy")).name
    '0.others.npy'
    """
    return output.with_name(f"{output.stem}.others.npy")
