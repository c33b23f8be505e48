"""A run as values: the facts of its folder, and either its measurement or the reason for its exclusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saman.runs.events import State
from saman.runs.records.provenance import MemoryBandwidth
from saman.runs.telemetry.goodput import Goodput
from saman.runs.telemetry.processes import ProcessTimes, StageWindows
from saman.runs.telemetry.reader import ExcludedWindows
from saman.runs.telemetry.throughput import Throughput
from saman.scaling.analysis.learning import Epoch, LossCurve
from saman.scaling.analysis.stages import PlannedStages
from saman.scaling.models.laws import Scaling
from saman.scaling.statistics.steady_state import SteadyState

Array = NDArray[np.float64]


@dataclass(frozen=True)
class RunFacts:
    """The facts in a run folder, without its telemetry.

    ``settings`` holds what was trained, by dotted key, without batch size, seed and place; keys that an older saman did
    not write have their defaults. ``identity`` holds those that differ from their defaults. ``batch_per_rank`` is set
    under weak scaling only; ``joules`` only where a meter was read. ``node_cores`` are the cores of a node that ranks
    may use; ``cores_shared`` says that a node had more ranks' cores to give than it has, so that ranks took turns.
    ``memory_bandwidth`` is that of the node that started the ranks.
    """

    id: str
    path: Path
    digest: str
    settings: Mapping[str, Any]
    strategy: str
    ranks: int
    nodes: int
    global_batch: int
    batch_per_rank: int | None
    cores_per_rank: int | None
    state: State
    started: float
    hardware: str
    software: str
    placement: str
    command: str
    joules: float | None
    node_cores: int | None = None
    cores_shared: bool = False
    seed: int | None = None
    network: str = "not recorded"
    memory_bandwidth: MemoryBandwidth | None = None
    identity: Mapping[str, Any] = field(default_factory=dict)

    @property
    def scaling(self) -> Scaling:
        """Weak where the batch per rank is fixed, else strong."""
        return "weak" if self.batch_per_rank else "strong"

    @property
    def inexact_options(self) -> tuple[str, ...]:
        """The options under which several ranks do not take the optimiser steps of a single rank."""
        if self.ranks == 1:
            return ()
        exact = {"train.exchange.compression": "none", "train.exchange.reduction": "sum"}
        found = {key: self.settings.get(key, kept) for key, kept in exact.items() if self.strategy == "horovod"}
        named = [f"{key} {value}" for key, value in found.items() if value != exact[key]]
        if self.strategy == "parameter_server" and not self.settings.get("train.parameter_server.synchronous", False):
            named.append("train.parameter_server.synchronous false")
        return tuple(named)

    @property
    def stage_count(self) -> int:
        """Stages of a pipeline; 1 for every other strategy."""
        return int(self.settings.get("train.pipeline.stages") or 1) if self.strategy == "pipeline" else 1

    @property
    def micro_batches(self) -> int:
        """Micro-batches in a step of one replica."""
        return int(self.settings.get("train.micro_batches") or 1)


@dataclass(frozen=True)
class WindowUsage:
    """Telemetry windows of a run: how many count, the warm-up left out, and the excluded windows by reason."""

    counted: int = 0
    steady: SteadyState = SteadyState(0, True, "")
    excluded: ExcludedWindows = ExcludedWindows()


@dataclass(frozen=True)
class Measurement:
    """The measures of a run over its steady windows; times are means over steps, in seconds per step.

    Attributes:
        throughput: Of all ranks, sustained and over windows.
        exchange_seconds: Exposed exchange; None where the run did not measure it.
        window_step_seconds: Seconds per step of the first windows; ``window_steps`` are the steps of each.
        stages: Windows of each process that holds a stage of a pipeline.
        planned_stages: The partitioner's plan of those stages.
        node_of: Node of each process, by its first rank.
        duration_seconds: From the first window to the last; None without clock times.
        seconds_in_windows: Of all windows in which no graph was traced, warm-up included.
        wall_seconds: Of all attempts, start, tracing, validation and checkpoints included; None in records without
            the start of an attempt.
        end_to_end_samples_per_second: All samples ÷ ``wall_seconds``.
        cpu_seconds_per_sample: Of all threads of all processes (``getrusage``); None in telemetry before 2026-12.
        data_notices: What the run said about its data and how they were read.
        goodput: Kept steps × undisturbed step time ÷ wall time, with its losses; None in older runs.
    """

    throughput: Throughput
    step_seconds: float
    input_wait_seconds: float
    exchange_seconds: float | None
    window_step_seconds: Array
    window_steps: Array
    windows: WindowUsage
    processes: tuple[ProcessTimes, ...]
    stages: tuple[StageWindows, ...]
    planned_stages: PlannedStages | None
    node_of: Mapping[int, str]
    loss: LossCurve | None
    epochs: tuple[Epoch, ...]
    duration_seconds: float | None
    seconds_in_windows: float
    wall_seconds: float | None = None
    end_to_end_samples_per_second: float | None = None
    cpu_seconds_per_sample: float | None = None
    data_notices: tuple[str, ...] = ()
    goodput: Goodput | None = None

    @property
    def samples_per_second(self) -> float:
        """Sustained throughput of all ranks."""
        return self.throughput.sustained

    @property
    def samples_per_epoch(self) -> float | None:
        """Samples in an epoch; None before the first epoch ends."""
        return self.epochs[0].samples / self.epochs[0].epoch if self.epochs else None

    @property
    def overhead_seconds_per_epoch(self) -> float | None:
        """Wall time per epoch in which no steady step was taken; None where wall time or epochs are unknown."""
        if self.wall_seconds is None or not self.epochs:
            return None
        taken = self.epochs[-1].samples / self.throughput.sustained
        return max(0.0, self.wall_seconds - taken) / self.epochs[-1].epoch

    def epoch_seconds(self, samples_per_second: float) -> float | None:
        """Wall time of an epoch at a sustained throughput, end to end: with the overhead of this run.

        Args:
            samples_per_second: Sustained throughput, for instance a forecast.

        Returns:
            Seconds; None where the samples of an epoch or the wall time of the run are unknown.
        """
        samples, overhead = self.samples_per_epoch, self.overhead_seconds_per_epoch
        return None if samples is None or overhead is None else samples / samples_per_second + overhead


class ExclusionReason(Enum):
    """Why a run is excluded from the analysis."""

    FAILED = "failed"
    UNFINISHED = "not finished"
    NO_TELEMETRY_OF_THIS_SCHEMA = "no telemetry of this schema version"
    NO_COUNTED_WINDOW = "no window counts"
    INVALID_THROUGHPUT = "throughput is zero or not a number"


@dataclass(frozen=True)
class Exclusion:
    """The reason for excluding a run, with details for the reader and what its telemetry held."""

    reason: ExclusionReason
    details: str = ""
    windows: WindowUsage = WindowUsage()

    @property
    def text(self) -> str:
        """Reason and details."""
        return f"{self.reason.value}: {self.details}" if self.details else self.reason.value


@dataclass(frozen=True)
class MeasuredRun:
    """A completed run with usable telemetry."""

    facts: RunFacts
    measured: Measurement

    @property
    def windows(self) -> WindowUsage:
        """Which of its telemetry windows count."""
        return self.measured.windows


@dataclass(frozen=True)
class ExcludedRun:
    """A run without usable measures."""

    facts: RunFacts
    exclusion: Exclusion

    @property
    def windows(self) -> WindowUsage:
        """Which of its telemetry windows count."""
        return self.exclusion.windows


Run = MeasuredRun | ExcludedRun


def timed_rates(runs: Sequence[MeasuredRun]) -> list[tuple[float, float]]:
    """Start (Unix seconds) and sustained throughput of each run, in the order of their start."""
    return sorted((run.facts.started, run.measured.samples_per_second) for run in runs)
