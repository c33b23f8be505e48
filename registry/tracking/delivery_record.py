"""``tracking.json`` of a run folder: which state of the run was delivered where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from saman.runs.files.whole import write_json
from saman.runs.records.schema import mapping, number, read_record, text


@dataclass(frozen=True)
class MlflowDelivery:
    """The last delivery to MLflow. ``content`` is the digest of the run's history; ``problem`` says why it waits."""

    uri: str | None
    experiment: str | None = None
    content: str | None = None
    delivered: bool = False
    run_id: str | None = None
    problem: str | None = None
    time: float | None = None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> MlflowDelivery:
        """Take the delivery out of plain values."""
        texts = {name: text(value.get(name)) for name in ("uri", "experiment", "content", "run_id", "problem")}
        return cls(**texts, delivered=bool(value.get("delivered")), time=number(value.get("time")))


@dataclass(frozen=True)
class TensorBoardDelivery:
    """The last delivery to a folder of TensorBoard. ``content`` is the digest of the run's history."""

    folder: str | None
    content: str | None = None
    delivered: bool = False

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TensorBoardDelivery:
        """Take the delivery out of plain values."""
        return cls(text(value.get("folder")), text(value.get("content")), bool(value.get("delivered")))


@dataclass(frozen=True)
class DeliveryRecord:
    """The deliveries of a run; ``None`` for a tracker that was never asked for."""

    mlflow: MlflowDelivery | None = None
    tensorboard: TensorBoardDelivery | None = None

    @classmethod
    def read(cls, path: Path) -> DeliveryRecord | None:
        """Read the record at ``path``; ``None`` where there is none. Raises ``NewerSchema``."""
        value = read_record(path)
        if value is None:
            return None
        mlflow, tensorboard = mapping(value.get("mlflow")), mapping(value.get("tensorboard"))
        return cls(
            mlflow=MlflowDelivery.from_json(mlflow) if mlflow else None,
            tensorboard=TensorBoardDelivery.from_json(tensorboard) if tensorboard else None,
        )

    def write(self, path: Path) -> None:
        """Put the record at ``path``, whole; unknown facts are left out."""
        plain: dict[str, Any] = {"schema": 1}
        for name, delivery in (("mlflow", self.mlflow), ("tensorboard", self.tensorboard)):
            if delivery is not None:
                plain[name] = {key: value for key, value in asdict(delivery).items() if value is not None}
        write_json(path, plain)

    def holds(self, content: str) -> bool:
        """Whether every tracker has the history with this digest."""
        deliveries = [delivery for delivery in (self.mlflow, self.tensorboard) if delivery is not None]
        return bool(deliveries) and all(each.delivered and each.content == content for each in deliveries)
