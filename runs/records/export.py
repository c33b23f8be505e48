"""``export/export.json``: inputs, outputs and metrics of an exported model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from saman.configs.errors import UserError
from saman.runs.files.whole import write_json
from saman.runs.records.schema import integer, mapping, number, others, read_record

SCHEMA = 2


class Normalization(str, Enum):
    """Where inputs are normalised. The Keras file takes normalised inputs if the SavedModel normalises raw inputs."""

    NONE = "none"
    SAVED_MODEL = "saved_model"

    @classmethod
    def of(cls, value: object) -> Normalization:
        """Read the field ``normalization``. Schema 1 held a sentence there, or ``none``.

        >>> Normalization.of("inside the SavedModel; model.keras takes inputs that are already normalised")
        <Normalization.SAVED_MODEL: 'saved_model'>
        """
        return cls.NONE if value in (None, "", cls.NONE.value) else cls.SAVED_MODEL

    @property
    def sentence(self) -> str:
        """Where inputs are normalised, in words."""
        return {
            Normalization.NONE: "none",
            Normalization.SAVED_MODEL: "inside the SavedModel; model.keras takes normalised inputs",
        }[self]


@dataclass(frozen=True)
class SignatureTensor:
    """Element type and shape of an input or output; ``None`` stands for any length."""

    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Signature:
    """A serving signature: its inputs and outputs by name."""

    name: str = "serving_default"
    inputs: Mapping[str, SignatureTensor] = field(default_factory=dict)
    outputs: Mapping[str, SignatureTensor] = field(default_factory=dict)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Signature:
        """Take the signature out of an export record's plain values."""
        name = str(value.get("name", "serving_default"))
        return cls(name, _tensors(value.get("inputs")), _tensors(value.get("outputs")))

    def to_json(self) -> dict[str, Any]:
        """Return the plain values of the export record."""
        return asdict(self)


@dataclass(frozen=True)
class ExportRecord:
    """An exported model.

    Attributes:
        checked: The files were read back and compared with the trained model.
        max_difference: Largest |difference| ÷ max(1, |prediction|) by file: ``saved_model``, ``keras``.
        tolerance: Largest difference that was allowed.
        metrics: Final metrics of the exported epoch.
        sample: Split and number of examples of the validation sample.
        data: Identity of the training data, by content.
        statistics: Statistics of the training data per feature.
        more: Facts that this saman does not know.
    """

    checked: bool
    signature: Signature = Signature()
    max_difference: Mapping[str, float] = field(default_factory=dict)
    tolerance: float | None = None
    normalization: Normalization = Normalization.NONE
    metrics: Mapping[str, float] = field(default_factory=dict)
    step: int | None = None
    epoch: int | None = None
    parameters: int | None = None
    precision: str | None = None
    loss: str | None = None
    from_logits: bool | None = None
    sample: Mapping[str, Any] | None = None
    data: Mapping[str, Any] | None = None
    statistics: Any = None
    versions: Mapping[str, str] | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ExportRecord:
        """Take the record out of plain values of schema 1 or 2."""
        return cls(
            checked=bool(value.get("checked")),
            signature=Signature.from_json(mapping(value.get("signature"))),
            max_difference=mapping(value.get("max_difference")),
            tolerance=number(value.get("tolerance")),
            normalization=Normalization.of(value.get("normalization")),
            metrics=_numbers(mapping(value.get("metrics"))),
            step=integer(value.get("step")),
            epoch=integer(value.get("epoch")),
            parameters=integer(value.get("parameters")),
            precision=value.get("precision"),
            loss=value.get("loss"),
            from_logits=value.get("from_logits"),
            sample=value.get("sample"),
            data=value.get("data"),
            statistics=value.get("statistics"),
            versions=value.get("versions"),
            more=others(value, cls.__dataclass_fields__),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the values of ``export.json``; unknown facts are left out."""
        plain: dict[str, Any] = {
            "checked": self.checked,
            "max_difference": dict(self.max_difference),
            "tolerance": self.tolerance,
            "signature": self.signature.to_json(),
            "normalization": self.normalization.value,
            "metrics": dict(self.metrics),
        }
        names = ("step", "epoch", "parameters", "precision", "loss", "from_logits", "sample", "data", "statistics")
        plain |= {name: getattr(self, name) for name in (*names, "versions")}
        return {"schema": SCHEMA, **{name: item for name, item in plain.items() if item is not None}, **self.more}

    def write(self, path: Path) -> None:
        """Put the record at ``path``, whole."""
        write_json(path, self.to_json())

    @classmethod
    def read(cls, path: Path) -> ExportRecord:
        """Read the record at ``path``.

        Raises:
            UserError: It is missing or torn (``NewerSchema`` if a newer saman wrote it).
        """
        value = read_record(path, SCHEMA)
        if value is None:
            raise UserError("this file is not JSON", where=str(path), remedy="export the model again")
        return cls.from_json(value)


def _tensors(value: object) -> dict[str, SignatureTensor]:
    tensors = {name: mapping(tensor) for name, tensor in mapping(value).items()}
    return {name: SignatureTensor(str(t.get("dtype", "")), tuple(t.get("shape") or ())) for name, t in tensors.items()}


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: found for name, value in values.items() if (found := number(value)) is not None}
