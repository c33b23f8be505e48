"""What the stages of a pipeline took and held, by their telemetry, beside what the partitioner promised."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saman.runs.events import Event
from saman.runs.telemetry.reader import StageWindows

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PlannedStages:
    """How a run's model was split, as the run says: the first layer of each stage but the first, by name.

    ``stage_seconds`` (busy, per micro-batch) and ``memory_bytes`` are the partitioner's, per stage; empty where the
    cuts were given by hand, because then nothing was measured beforehand.
    """

    cuts: tuple[str, ...]
    stage_seconds: tuple[float, ...] = ()
    memory_bytes: tuple[float, ...] = ()

    def layers(self, stage: int) -> str:
        """The layers of a stage as a person would name them."""
        first = self.cuts[stage - 1] if 0 < stage <= len(self.cuts) else None
        then = self.cuts[stage] if stage < len(self.cuts) else None
        if first is None:
            return f"up to {then}" if then else "all"
        return f"from {first} up to {then}" if then else f"from {first}"


def promised(events: Iterable[Event]) -> PlannedStages | None:
    """The split that the last attempt's notice tells of."""
    found = None
    for event in events:
        cuts = event.facts.get("cuts")
        if event.kind == "notice" and isinstance(cuts, list):
            told = event.facts.get("predicted")
            told = told if isinstance(told, dict) else {}
            found = PlannedStages(
                tuple(map(str, cuts)), _numbers(told, "stage_seconds"), _numbers(told, "memory_bytes")
            )
    return found


def _numbers(told: dict[str, object], name: str) -> tuple[float, ...]:
    values = told.get(name)
    whole = isinstance(values, list) and all(isinstance(one, int | float) for one in values)
    return tuple(float(one) for one in values) if isinstance(values, list) and whole else ()


@dataclass(frozen=True)
class Quartiles:
    """A median with the quartiles around it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class StageMeasure:
    """One stage: medians and quartiles over the windows of all its replicas and runs, in seconds per step.

    ``busy`` holds both passes and the update; ``memory_bytes`` is the most held over the start, with its range.
    """

    stage: int
    layers: str | None
    processes: int
    busy: Quartiles
    busy_per_micro_batch: Quartiles
    waiting: Quartiles
    bubble_share: Quartiles
    transfer: Quartiles
    exchange: Quartiles
    input_wait: Quartiles
    memory_bytes: Quartiles | None
    promised_seconds: float | None
    promised_bytes: float | None


def stage_measures(
    runs: Sequence[Sequence[StageWindows]], micro_batches: int, splits: Sequence[PlannedStages | None]
) -> tuple[StageMeasure, ...]:
    """Every stage over the runs of one case, each given by its processes; ``splits`` has what each run says."""
    numbers = sorted({one.stage for run in runs for one in run})
    said = next((split for split in splits if split is not None), None)
    return tuple(
        _measure(number, [one for run in runs for one in run if one.stage == number], micro_batches, said)
        for number in numbers
    )


def _measure(number: int, mine: Sequence[StageWindows], micro_batches: int, said: PlannedStages | None) -> StageMeasure:
    def over(values: Iterable[Array]) -> Quartiles:
        return _spread(np.concatenate(list(values)))

    busy = np.concatenate([one.busy for one in mine])
    held = [one.memory_bytes for one in mine if one.memory_bytes is not None]
    seconds, memory = (said.stage_seconds, said.memory_bytes) if said else ((), ())
    return StageMeasure(
        stage=number,
        layers=said.layers(number) if said else None,
        processes=len(mine),
        busy=_spread(busy),
        busy_per_micro_batch=_spread(busy / micro_batches),
        waiting=over(one.waiting for one in mine),
        bubble_share=over(one.waiting / one.seconds for one in mine),
        transfer=over(one.transfer for one in mine),
        exchange=over(one.exchange for one in mine),
        input_wait=over(one.input_wait for one in mine),
        memory_bytes=Quartiles(float(np.median(held)), min(held), max(held)) if held else None,
        promised_seconds=seconds[number] if number < len(seconds) else None,
        promised_bytes=memory[number] if number < len(memory) else None,
    )


def _spread(values: Array) -> Quartiles:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return Quartiles(float(middle), float(low), float(high))
