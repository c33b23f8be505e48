"""Facts of the events that the training loop writes: a type for each kind, shared by ranks and readers.

Plain dataclasses, because every rank imports this file before its work begins.

>>> Resumption(step=40, epoch=2).facts()
{'step': 40, 'epoch': 2}
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

from saman.runs.events import Event, EventKind
from saman.runs.records.schema import integer, mapping, number


@dataclass(frozen=True)
class TrainingEvent:
    """Base of the events below; ``kind`` is the kind under which it is written."""

    kind: ClassVar[EventKind]

    def facts(self) -> dict[str, Any]:
        """Return the facts as they are written to ``events.jsonl``."""
        return {part.name: getattr(self, part.name) for part in fields(self)}


@dataclass(frozen=True)
class Notice(TrainingEvent):
    """A remark on the computation, for users."""

    kind: ClassVar[EventKind] = EventKind.NOTICE

    text: str

    @classmethod
    def from_event(cls, event: Event) -> Notice | None:
        """Return the notice of an event; ``None`` if the event is of another kind."""
        return cls(str(event.facts.get("text", ""))) if event.kind == cls.kind else None


@dataclass(frozen=True)
class DataNotice(Notice):
    """A remark on the data or on how they are read, which reports repeat."""

    def facts(self) -> dict[str, Any]:
        """Return the facts; ``subject`` tells this notice from others."""
        return {"text": self.text, "subject": "data"}

    @classmethod
    def from_event(cls, event: Event) -> DataNotice | None:
        """Return the notice of an event; ``None`` if the event is of another kind or about something else."""
        if event.kind != cls.kind or event.facts.get("subject") != "data":
            return None
        return cls(str(event.facts.get("text", "")))


@dataclass(frozen=True)
class PredictedStages:
    """The partitioner's prediction for the stages of a pipeline.

    Attributes:
        step_seconds: Seconds per step.
        speedup: Throughput, as a multiple of the whole model's on one rank.
        stage_seconds: Busy seconds of each stage per micro-batch.
        memory_bytes: Memory of each stage.
        bubble_share: Share of a step in which each stage waits.
    """

    step_seconds: float | None = None
    speedup: float | None = None
    stage_seconds: tuple[float, ...] = ()
    memory_bytes: tuple[float, ...] = ()
    bubble_share: tuple[float, ...] = ()


@dataclass(frozen=True)
class SplitNotice(Notice):
    """How a model is split into stages: the name of the first layer of each stage but the first, and the prediction."""

    cuts: tuple[str, ...] = ()
    predicted: PredictedStages | None = None

    def facts(self) -> dict[str, Any]:
        """Return the facts; a missing prediction, for cuts given by hand, is left out."""
        known = {} if self.predicted is None else {"predicted": asdict(self.predicted)}
        return {"text": self.text, "cuts": list(self.cuts), **known}

    @classmethod
    def from_event(cls, event: Event) -> SplitNotice | None:
        """Return the split of an event; ``None`` if the event is of another kind or names no cuts."""
        cuts, predicted = event.facts.get("cuts"), event.facts.get("predicted")
        if event.kind != cls.kind or not isinstance(cuts, list):
            return None
        found = _predicted_stages(predicted) if isinstance(predicted, dict) else None
        return cls(str(event.facts.get("text", "")), tuple(map(str, cuts)), found)


def _predicted_stages(value: Mapping[str, object]) -> PredictedStages:
    def numbers(name: str) -> tuple[float, ...]:
        values = value.get(name)
        sound = isinstance(values, list) and all(isinstance(item, int | float) for item in values)
        return tuple(map(float, values)) if isinstance(values, list) and sound else ()

    return PredictedStages(
        step_seconds=number(value.get("step_seconds")),
        speedup=number(value.get("speedup")),
        stage_seconds=numbers("stage_seconds"),
        memory_bytes=numbers("memory_bytes"),
        bubble_share=numbers("bubble_share"),
    )


@dataclass(frozen=True)
class EpochEnd(TrainingEvent):
    """The end of an epoch: its number from 1, the steps taken so far, its metrics (``None`` if not finite)."""

    kind: ClassVar[EventKind] = EventKind.EPOCH

    epoch: int
    step: int
    metrics: Mapping[str, float | None]

    @classmethod
    def from_event(cls, event: Event) -> EpochEnd | None:
        """Return the epoch that an event ends; ``None`` if the event is of another kind or has no metrics."""
        metrics = event.facts.get("metrics")
        if event.kind != cls.kind or not isinstance(metrics, dict):
            return None
        epoch, step = integer(event.facts.get("epoch")), integer(event.facts.get("step"))
        return cls(epoch or 0, step or 0, {name: number(value) for name, value in metrics.items()})

    def finite_metrics(self) -> dict[str, float]:
        """The metrics without those that are not finite."""
        return {name: value for name, value in self.metrics.items() if value is not None and math.isfinite(value)}


@dataclass(frozen=True)
class MidwayValidation(TrainingEvent):
    """A validation within an epoch: after ``step`` steps, in the epoch of this number from 1."""

    kind: ClassVar[EventKind] = EventKind.VALIDATED

    step: int
    epoch: int
    metrics: Mapping[str, float | None]


@dataclass(frozen=True)
class FinalTest(TrainingEvent):
    """The final model was evaluated on the test examples (a metric is ``None`` if not finite)."""

    kind: ClassVar[EventKind] = EventKind.TESTED

    metrics: Mapping[str, float | None]

    @classmethod
    def from_event(cls, event: Event) -> FinalTest | None:
        """Return the metrics of an event; ``None`` if the event is of another kind."""
        metrics = event.facts.get("metrics")
        if event.kind != cls.kind or not isinstance(metrics, dict):
            return None
        return cls({name: number(value) for name, value in metrics.items()})


@dataclass(frozen=True)
class CheckpointSave(TrainingEvent):
    """A checkpoint of the state after ``step`` steps.

    Attributes:
        step: Optimiser steps taken.
        path: Its name in the folder of checkpoints.
        seconds: From its snapshot until it was visible; ``None`` in older runs.
        waited_seconds: How long the training waited for it and for the checkpoint before; ``None`` in older runs.
    """

    kind: ClassVar[EventKind] = EventKind.CHECKPOINT

    step: int
    path: str
    seconds: float | None = None
    waited_seconds: float | None = None

    @classmethod
    def from_event(cls, event: Event) -> CheckpointSave | None:
        """Return the facts of an event; ``None`` if it is of another kind or names no step."""
        step = event.facts.get("step")
        if event.kind != cls.kind or not isinstance(step, int):
            return None
        seconds, waited = number(event.facts.get("seconds")), number(event.facts.get("waited_seconds"))
        return cls(step, str(event.facts.get("path", "")), seconds, waited)


@dataclass(frozen=True)
class CheckpointDamage(TrainingEvent):
    """A checkpoint that was skipped because it cannot be read."""

    kind: ClassVar[EventKind] = EventKind.DAMAGED_CHECKPOINT

    path: str
    problem: str


@dataclass(frozen=True)
class NonFinite(TrainingEvent):
    """A step with a gradient that is not finite.

    Attributes:
        step: The number of the step, counted from 1.
        variable: The first variable with such a gradient.
        ranks: The ranks that computed such gradients.
        action: What follows: ``stop``, ``rollback`` or ``report``.
        steps: The number of such steps in this attempt so far.
        text: The finding in words.
    """

    kind: ClassVar[EventKind] = EventKind.NONFINITE

    step: int
    variable: str
    ranks: tuple[int, ...]
    action: str
    steps: int
    text: str = ""

    @classmethod
    def from_event(cls, event: Event) -> NonFinite | None:
        """Return the facts of an event; ``None`` if it is of another kind or names no step."""
        facts = event.facts
        step, steps = integer(facts.get("step")), integer(facts.get("steps"))
        if event.kind != cls.kind or step is None:
            return None
        texts = (str(facts.get(name, "")) for name in ("variable", "action", "text"))
        variable, action, text = texts
        return cls(step, variable, _ranks(facts.get("ranks")), action, steps or 1, text)


@dataclass(frozen=True)
class RankDivergence(TrainingEvent):
    """The weights of ``ranks`` differ from those of the others after ``step`` steps; all ranks without a majority."""

    kind: ClassVar[EventKind] = EventKind.DIVERGED

    step: int
    ranks: tuple[int, ...]
    text: str


@dataclass(frozen=True)
class RolledBack(TrainingEvent):
    """The training went back to the checkpoint of ``step``; the step ``skipped``, counted from 1, is left out."""

    kind: ClassVar[EventKind] = EventKind.ROLLED_BACK

    step: int
    skipped: int


def _ranks(value: object) -> tuple[int, ...]:
    return tuple(rank for rank in value if isinstance(rank, int)) if isinstance(value, list | tuple) else ()


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

    @classmethod
    def from_event(cls, event: Event) -> ModelExport | None:
        """Return the export of an event; ``None`` if the event is of another kind."""
        if event.kind != cls.kind:
            return None
        metrics = {name: number(value) for name, value in mapping(event.facts.get("metrics")).items()}
        known = {name: value for name, value in metrics.items() if value is not None}
        return cls(str(event.facts.get("path", "")), known)
