"""Measured time and memory of the stages of a pipeline, beside the partitioner's prediction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saman.runs.events import Event, find_last
from saman.runs.ranks.training_events import PredictedStages, SplitNotice
from saman.runs.telemetry.processes import StageWindows
from saman.scaling.statistics.intervals import Quartiles

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PlannedStages:
    """The split of a run's model into stages.

    Attributes:
        cuts: Name of the first layer of each stage except the first.
        stage_seconds: Predicted busy seconds of each stage per micro-batch; empty for cuts given by hand.
        memory_bytes: Predicted memory of each stage; empty for cuts given by hand.
    """

    cuts: tuple[str, ...]
    stage_seconds: tuple[float, ...] = ()
    memory_bytes: tuple[float, ...] = ()

    def layers(self, stage: int) -> str:
        """The layers of a stage in words: ``from a up to b``."""
        first = self.cuts[stage - 1] if 0 < stage <= len(self.cuts) else None
        end = self.cuts[stage] if stage < len(self.cuts) else None
        if first is None:
            return f"up to {end}" if end else "all"
        return f"from {first} up to {end}" if end else f"from {first}"


def planned_stages(events: Sequence[Event]) -> PlannedStages | None:
    """The split in the notice of the last attempt; None for a run that is not a pipeline."""
    found = find_last(SplitNotice.from_event, events)
    if found is None:
        return None
    predicted = found.predicted or PredictedStages()
    return PlannedStages(found.cuts, predicted.stage_seconds, predicted.memory_bytes)


@dataclass(frozen=True)
class StageMeans:
    """Means over the windows of all replicas and runs of a stage, in seconds per step.

    Means add up to the sustained step, with its stalls; medians do not.

    Attributes:
        busy: Both passes and the optimiser's update.
        passes: Wall seconds of both passes; this and the CPU seconds are None in older telemetry.
        pass_cpu: CPU seconds of both passes, which do not grow when ranks share a core.
    """

    busy: float
    transfer: float
    exchange: float
    input_wait: float
    passes: float | None
    pass_cpu: float | None
    update_cpu: float | None


@dataclass(frozen=True)
class StageMeasure:
    """Measures of a stage: medians and quartiles over the windows of all its replicas and runs, in seconds per step.

    Attributes:
        busy: Both passes and the optimiser's update.
        pass_cpu: CPU seconds of both passes; None in older telemetry.
        memory_bytes: Peak over the start of the process, with its range; None where the system did not report it.
        planned_seconds: Predicted busy seconds per micro-batch; None for cuts given by hand.
        planned_bytes: Predicted memory; None for cuts given by hand.
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
    planned_seconds: float | None
    planned_bytes: float | None
    pass_cpu: Quartiles | None
    means: StageMeans


def stage_measures(
    runs: Sequence[Sequence[StageWindows]], micro_batches: int, plans: Sequence[PlannedStages | None]
) -> tuple[StageMeasure, ...]:
    """Measures of every stage over several runs.

    Args:
        runs: The windows of each run's processes.
        micro_batches: Per step of a replica.
        plans: The planned stages of each run.

    Returns:
        The stages in order; empty where the telemetry has no times per stage.
    """
    numbers = sorted({process.stage for run in runs for process in run})
    plan = next((plan for plan in plans if plan is not None), None)
    return tuple(
        _measure(number, [process for run in runs for process in run if process.stage == number], micro_batches, plan)
        for number in numbers
    )


def _measure(
    number: int, processes: Sequence[StageWindows], micro_batches: int, plan: PlannedStages | None
) -> StageMeasure:
    def over_windows(values: Iterable[Array]) -> Quartiles:
        return _quartiles(np.concatenate(list(values)))

    busy = np.concatenate([process.busy for process in processes])
    pass_cpu = _if_recorded([process.pass_cpu for process in processes])
    held = [process.memory_bytes for process in processes if process.memory_bytes is not None]
    seconds, memory = (plan.stage_seconds, plan.memory_bytes) if plan else ((), ())
    return StageMeasure(
        stage=number,
        layers=plan.layers(number) if plan else None,
        processes=len(processes),
        busy=_quartiles(busy),
        busy_per_micro_batch=_quartiles(busy / micro_batches),
        waiting=over_windows(process.waiting for process in processes),
        bubble_share=over_windows(process.waiting / process.seconds for process in processes),
        transfer=over_windows(process.transfer for process in processes),
        exchange=over_windows(process.exchange for process in processes),
        input_wait=over_windows(process.input_wait for process in processes),
        memory_bytes=Quartiles(float(np.median(held)), min(held), max(held)) if held else None,
        planned_seconds=seconds[number] if number < len(seconds) else None,
        planned_bytes=memory[number] if number < len(memory) else None,
        pass_cpu=_quartiles(pass_cpu) if pass_cpu is not None else None,
        means=_means(processes),
    )


def _means(processes: Sequence[StageWindows]) -> StageMeans:
    def mean(values: Array | None) -> float | None:
        return None if values is None else float(values.mean())

    def known(values: Iterable[Array]) -> float:
        return float(np.concatenate(list(values)).mean())

    return StageMeans(
        busy=known(process.busy for process in processes),
        transfer=known(process.transfer for process in processes),
        exchange=known(process.exchange for process in processes),
        input_wait=known(process.input_wait for process in processes),
        passes=mean(_if_recorded([process.passes for process in processes])),
        pass_cpu=mean(_if_recorded([process.pass_cpu for process in processes])),
        update_cpu=mean(_if_recorded([process.update_cpu for process in processes])),
    )


def _if_recorded(values: Sequence[Array | None]) -> Array | None:
    """The values of all processes, if every process recorded them."""
    known = [series for series in values if series is not None]
    return np.concatenate(known) if len(known) == len(values) and known else None


def _quartiles(values: Array) -> Quartiles:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return Quartiles(float(middle), float(low), float(high))
