"""What the training loop needs from others: an optimiser step, the feeds of a run, an observer of its progress."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from saman.runs.ranks.training_events import Notice, TrainingEvent
from saman.runs.records.training_facts import TrainingFacts
from saman.trainers.data.feed import Feed, Slice
from saman.trainers.loop.step_times import StepTotals
from saman.trainers.loop.telemetry import TelemetryWriter

MOST_STEPS = 256  # of one call of ``OptimizerStep.train_many``


class TrainMany(Protocol):
    """Takes one step per learning rate in ``rates``, at most ``MOST_STEPS``."""

    def __call__(self, step: int, rates: Sequence[float], stop: float, streams: Sequence[Any]) -> StepTotals:
        """Take the steps.

        Args:
            step: The number of the first step, counted from 0.
            rates: The learning rate of each step.
            stop: 1.0 if this process requests a stop.
            streams: One ``tf.data`` iterator of full (inputs, labels) batches per slice.
        """


class OptimizerStep(Protocol):
    """Computes one optimiser step on the ranks of this process: data parallel or as a pipeline.

    Attributes:
        slices: The parts of each global batch that this process reads.
        notices: What users should know about how the step is computed; the chief records them as events.
        counts_examples: Whether this process's telemetry counts the examples of its slices. Each example is counted
            by exactly one process.
        train_many: Takes several steps in one call, on batches that the graph reads itself; ``None`` if it cannot.
        part: The part of a checkpoint that this process writes; ``None`` if it writes none.
        parts: The number of parts of a checkpoint.
        divided: The shape of each array that ranks write in pieces.
        stage: The stage of a pipeline that this process holds alone; ``None`` if it holds the whole model.
        width: The numbers of a vector of measures.
        variable_names: The names of the variables with gradients here, in the order of the signs of failure.
    """

    slices: list[Slice]
    notices: tuple[Notice, ...]
    counts_examples: bool
    train_many: TrainMany | None
    part: int | None
    parts: int
    divided: Mapping[str, tuple[int, ...]]
    stage: int | None
    width: int
    variable_names: tuple[str, ...]

    def train(self, step: int, rate: float, stop: float, batches: Sequence[Any]) -> StepTotals:
        """Take one step.

        Args:
            step: The number of the step, counted from 0.
            rate: The learning rate.
            stop: 1.0 if this process requests a stop; summed over all processes.
            batches: One (inputs, labels) pair per slice.
        """

    def validate(self, batches: Sequence[Any]) -> np.ndarray:
        """Return float64[width] measures; summed over all processes they count each example once."""

    def predict(self, inputs: Any) -> Any:
        """Return the model's outputs in inference mode, an array or a nest of arrays; all ranks call it alike."""

    def state(self) -> Mapping[str, np.ndarray]:
        """Return the weights and the optimiser state that this process holds."""

    def snapshot(self) -> dict[str, np.ndarray]:
        """Return this process's part of a checkpoint; later steps do not change its values."""

    def whole_state(self) -> dict[str, np.ndarray]:
        """Return weights and optimiser state of the whole model on the chief; all ranks call it."""

    def checksums(self) -> np.ndarray | None:
        """Return float64[ranks here, 2]: a checksum of each rank's weights; ``None`` if ranks are not compared."""

    def bad_weight(self) -> str | None:
        """Return the name of the first variable here with a value that is not finite; ``None`` if there is none."""

    def restore(self, state: dict[str, np.ndarray], optimizer: bool = True) -> None:
        """Load what this process needs from the state of the whole model."""

    def make_identical(self) -> None:
        """Give all replicas the same values."""

    def results(self, sums: np.ndarray) -> dict[str, float]:
        """Return the metrics by name for float64[width] sums over examples; none for sums over no example."""

    def swap_average(self) -> None:
        """Exchange the weights and their moving average, if there is one; a second call undoes it."""

    def close_window(self) -> dict[str, Any]:
        """Return further fields of the telemetry window that ends now, and start the next window."""


class LoopObserver(Protocol):
    """Receives the loop's progress; for instance ``saman.runs.ranks.heartbeats.Heartbeat``."""

    def beat(self, phase: str, step: int = 0, epoch: int = 0, total_steps: int | None = None) -> None:
        """Note the phase and the step that the loop has reached."""

    def note_pace(self, busy_seconds: float | None, stage: int | None) -> None:
        """Note the newest seconds per step before this process could exchange; it waits for nobody in them."""


@dataclass(frozen=True)
class Feeds:
    """The examples of a run.

    Attributes:
        train: Returns the training feed of an epoch.
        validation: Returns the validation feed, or ``None`` if the run has no validation data.
        test: Returns the feed of the test examples, or ``None`` if the run has none.
        steps_per_epoch: Number of global batches per epoch, a short last batch included.
    """

    train: Callable[[int], Feed]
    validation: Callable[[int], Feed | None]
    test: Callable[[], Feed | None]
    steps_per_epoch: int


@dataclass(frozen=True, kw_only=True)
class LoopEnvironment:
    """Where the loop reads requests and reports its progress.

    Attributes:
        checkpoints: The folder of the run's checkpoints.
        training_facts: What determines the steps of the training; a checkpoint continues only where they are equal.
        metrics: Names of the metrics that the run computes.
        stop_request: A file that requests a stop by its existence.
        record: Appends an event to the run.
        observer: Receives a beat before each step and each longer phase.
        telemetry: Writes the telemetry of this process.
        mtbf_seconds: The mean time between failures of the run, for automatic checkpoints.
        callbacks: The user's callbacks of Keras, with their model.
        epochs_recorded: Returns how many epochs of this run have an event of their end.
    """

    checkpoints: Path
    training_facts: TrainingFacts
    metrics: frozenset[str]
    stop_request: Path
    record: Callable[[TrainingEvent], None]
    observer: LoopObserver
    telemetry: TelemetryWriter
    mtbf_seconds: float = 86400.0
    callbacks: Sequence[Any] = ()
    epochs_recorded: Callable[[], int] = lambda: 0
