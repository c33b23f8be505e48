"""Facts of the events that the training loop writes: a type for each kind, shared by ranks and readers.

Plain dataclasses, because every rank imports this file before its work begins.

>>> CheckpointSave(step=40, path="step-00000040").facts()
{'step': 40, 'path': 'step-00000040'}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from saman.runs.events import EventKind


@dataclass(frozen=True)
class TrainingEvent:
    """Base of the events below; ``kind`` is the kind under which it is written."""

    kind: ClassVar[EventKind]

    def facts(self) -> dict[str, Any]:
        """Return the facts as they are written to ``events.jsonl``."""
        return {part.name: getattr(self, part.name) for part in fields(self)}


@dataclass(frozen=True)
class Notice(TrainingEvent):
    """A remark for users on the computation; ``details`` has it as data."""

    kind: ClassVar[EventKind] = EventKind.NOTICE

    text: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """Return the text and the details in a flat dictionary."""
        return {"text": self.text, **self.details}


@dataclass(frozen=True)
class EpochEnd(TrainingEvent):
    """The end of an epoch: its number from 1, the steps taken so far, its metrics (``None`` if not finite)."""

    kind: ClassVar[EventKind] = EventKind.EPOCH

    epoch: int
    step: int
    metrics: Mapping[str, float | None]


@dataclass(frozen=True)
class CheckpointSave(TrainingEvent):
    """A checkpoint of the state after ``step`` steps; ``path`` is its name in the folder of checkpoints."""

    kind: ClassVar[EventKind] = EventKind.CHECKPOINT

    step: int
    path: str


@dataclass(frozen=True)
class CheckpointDamage(TrainingEvent):
    """A checkpoint that was skipped because it cannot be read."""

    kind: ClassVar[EventKind] = EventKind.DAMAGED_CHECKPOINT

    path: str
    problem: str


@dataclass(frozen=True)
class Resumption(TrainingEvent):
    """The position from which an attempt continues: steps taken, and the epoch's number from 1."""

    kind: ClassVar[EventKind] = EventKind.RESUMED

    step: int
    epoch: int


@dataclass(frozen=True)
class ExchangeMeasurement(TrainingEvent):
    """Medians in seconds per step, measured before the first step with ``train.calibrate_exchange``.

    Attributes:
        rank: The first rank of the process that measured.
        steps: Number of measured steps of each kind.
        step_seconds: A step with the exchange between ranks.
        compute_seconds: A step without it.
        exposed_seconds: The exchange that computation does not hide: the difference, never negative.
    """

    kind: ClassVar[EventKind] = EventKind.EXCHANGE_MEASURED

    rank: int
    steps: int
    step_seconds: float
    compute_seconds: float
    exposed_seconds: float


@dataclass(frozen=True)
class ModelExport(TrainingEvent):
    """The trained model was exported to ``path``, relative to the run folder, with these final metrics."""

    kind: ClassVar[EventKind] = EventKind.EXPORTED

    path: str
    metrics: Mapping[str, float]
