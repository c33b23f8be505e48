"""The one training loop. It does not know which strategy it runs on, nor how a step is computed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from saman.configs.schemas.training import Train
from saman.runs import checkpoints
from saman.runs.checkpoints import TrainingPosition
from saman.trainers.data.feed import Feed, Slice
from saman.trainers.loop import early_stop
from saman.trainers.loop.schedule import Rates
from saman.trainers.loop.step import CORRECT, COUNT, LOSS, STOP
from saman.trainers.loop.telemetry import TelemetryWriter
from saman.trainers.strategies.base import Strategy, agreed

LOOK_FOR_STOP_SECONDS = 0.5


class OptimizerStep(Protocol):
    """How one optimiser step is computed on the ranks of this process; data parallel or a pipeline."""

    slices: list[Slice]  # the parts of each global batch that this process needs
    notes: tuple[dict[str, Any], ...]  # facts of notices, each with its ``text``
    counts_examples: bool  # whether this process's telemetry counts them: each example once over all processes
    part: int | None  # which part of a checkpoint this process writes
    parts: int

    def train(self, step: int, rate: float, stop: float, batches: Sequence[Any]) -> Any:
        """One step; float64[4] of sums over the global batch: loss, correct, count, stop. Alike on all ranks."""

    def validate(self, batches: Sequence[Any]) -> np.ndarray:
        """float64[4] of sums that, added over all processes, count each example once."""

    def predict(self, inputs: Any) -> np.ndarray:
        """Outputs in inference mode; all ranks call it with the same inputs."""

    def state(self) -> Mapping[str, np.ndarray]:
        """This process's part of the weights and the optimiser."""

    def whole_state(self) -> dict[str, np.ndarray]:
        """The weights and the optimiser of the whole model, on the chief; all ranks call it."""

    def restore(self, state: dict[str, np.ndarray], optimizer: bool = True) -> None:
        """Take over what this process needs of a whole state."""

    def make_identical(self) -> None:
        """Give all replicas the same values."""

    def measured(self) -> dict[str, Any]:
        """Further fields of the telemetry window that ends now."""


class LoopObserver(Protocol):
    """Who wants to know where the loop is; a ``launcher.heartbeat.Heartbeat``."""

    def beat(self, phase: str, step: int = 0, epoch: int = 0, total_steps: int | None = None) -> None: ...


@dataclass(frozen=True)
class Feeds:
    """The examples of a run: a training feed for each epoch, and the validation feed where there is one."""

    train: Callable[[int], Feed]
    validation: Callable[[int], Feed | None]
    steps_per_epoch: int


@dataclass(frozen=True)
class Surroundings:
    """What the loop reports to: where checkpoints lie, whether somebody asks for a stop, events, heartbeat."""

    checkpoints: Path
    facts: Mapping[str, Any]
    metrics: frozenset[str]  # names of those that this run computes
    stop_request: Path
    event: Callable[..., None]  # called by the chief alone
    watch: LoopObserver
    telemetry: TelemetryWriter


class Loop:
    """Trains from the newest sound checkpoint to the end, or to a stop that all ranks agree on."""

    def __init__(
        self, train: Train, strategy: Strategy, step: OptimizerStep, data: Feeds, rates: Rates, around: Surroundings
    ) -> None:
        self.train, self.strategy, self.step, self.data = train, strategy, step, data
        self.rates, self.around = rates, around
        self.position = TrainingPosition()
        self._looked = 0.0
        self._stop = False
        self._traced = False  # the graph takes batches of any length: only an attempt's first step compiles

    @property
    def finished(self) -> bool:
        """Whether no step is left to take."""
        return self.position.ended or self.position.step >= self.rates.steps

    def run(self) -> bool:
        """Train; returns whether it came to its end rather than to a stop on request."""
        self._resume()
        while not self.finished:
            self._epoch()
            at_end = self.position.batch == self.data.steps_per_epoch or self.position.step == self.rates.steps
            if at_end:
                self._end_of_epoch()
            elif self._stop:
                self._checkpoint()
            if self._stop and not self.finished:
                return False
        self._take_the_best()
        return True

    # ---- an epoch ----------------------------------------------------------------------------------------

    def _epoch(self) -> None:
        """Steps up to the end of the epoch, the last step of the run, or a window in which a stop was asked for."""
        position = self.position
        parts = [self.data.train(position.epoch).batches(part, position.batch) for part in self.step.slices]
        self.around.telemetry.pause()
        began = time.perf_counter()
        for batches in _together(parts):
            waited = time.perf_counter() - began
            step = self.position.step
            self._beat("train" if self._traced else "compile")
            sums = self.step.train(step, self.rates(step), self._asked_to_stop(), batches)
            self._traced = True
            samples = sum(int(labels.shape[0]) for _, labels in batches) if self.step.counts_examples else 0
            full = self.around.telemetry.step(sums, samples, waited)
            self.position = replace(self.position, step=step + 1, batch=self.position.batch + 1)
            last = self.position.batch == self.data.steps_per_epoch or self.position.step == self.rates.steps
            due = self._checkpoint_is_due() and not last
            if full or last or due:
                self._close_window()
            if last or self._stop:
                return
            if due:
                self._checkpoint()
            began = time.perf_counter()

    def _close_window(self) -> None:
        """Every rank closes the same windows and reads the same sums, so that all stop after the same step."""
        position = self.position
        total = self.around.telemetry.close_window(
            position.step, position.epoch + 1, self.rates(position.step - 1), **self.step.measured()
        )
        self._stop = bool(total[STOP] > 0)
        if not np.isfinite(total[LOSS]) and np.isfinite(position.epoch_sums[LOSS]):
            self._event("notice", text=f"the loss is {total[LOSS]} in the window that ends with step {position.step}")
        self.position = replace(position, epoch_sums=tuple(float(x) for x in np.add(position.epoch_sums, total)))

    def _asked_to_stop(self) -> float:
        """1 from the chief once somebody has asked; it looks at most twice a second."""
        now = time.monotonic()
        if not self.strategy.chief or now - self._looked < LOOK_FOR_STOP_SECONDS:
            return 0.0
        self._looked = now
        return float(self.around.stop_request.exists())

    def _end_of_epoch(self) -> None:
        position = self.position
        metrics = self._means(np.array(position.epoch_sums), "")
        final = position.step == self.rates.steps
        validated = final or (position.epoch + 1) % self.train.validate_every_epochs == 0
        if validated:
            metrics.update(self._validate())
        position = replace(position, metrics=metrics)
        spec = self.train.early_stop
        if spec is not None and spec.metric in metrics:
            position = early_stop.judged(position, spec, agreed(self.strategy, metrics[spec.metric]))
        self._event("epoch", epoch=position.epoch + 1, step=position.step, metrics=_finite(metrics))
        self.position = replace(position, epoch=position.epoch + 1, batch=0, epoch_sums=(0.0, 0.0, 0.0, 0.0))
        every = self.train.checkpoint.every_epochs
        best = spec is not None and spec.restore_best and position.best_step == position.step
        if self.finished or self._stop or best or (every and self.position.epoch % every == 0):
            self._checkpoint()

    def _validate(self) -> dict[str, float]:
        feed = self.data.validation(self.position.epoch)
        if feed is None:
            return {}
        sums = np.zeros(4)
        for batches in _together([feed.batches(part) for part in self.step.slices]):
            self._beat("validate")
            sums += self.step.validate(batches)
        return self._means(self.strategy.total(sums), "val_")

    # ---- checkpoints -------------------------------------------------------------------------------------

    def _checkpoint_is_due(self) -> bool:
        every = self.train.checkpoint.every_steps
        return every is not None and self.position.step % every == 0

    def _checkpoint(self) -> None:
        """Each part by the rank that holds it; the chief makes the whole visible."""
        self._beat("checkpoint")
        folder, step = self.around.checkpoints, self.position.step
        if self.step.part is not None:
            checkpoints.write_part(folder, step, self.step.part, self.step.state())
        if self.step.parts > 1:
            self.strategy.total(np.zeros(1))
        if self.strategy.chief:
            written = checkpoints.publish(folder, self.position, self.step.parts, self.around.facts)
            checkpoints.discard(folder, self.train.checkpoint.keep, self.position.best_step)
            self._event("checkpoint", step=step, path=str(written.path.name))
        self.around.telemetry.pause()

    def _resume(self) -> None:
        """Go on from the newest sound checkpoint, which the chief chooses."""
        folder, chosen = self.around.checkpoints, -1
        if self.strategy.chief:
            checkpoints.discard_drafts(folder)
            for candidate, problem in checkpoints.newest_sound(folder):
                if problem is None:
                    chosen = candidate.step
                else:
                    self._event("damaged_checkpoint", path=candidate.path.name, problem=problem)
        chosen = int(agreed(self.strategy, chosen))
        if chosen < 0:
            self.step.make_identical()
            return
        self.position = self._restore(chosen, optimizer=True)
        self._event("resumed", step=self.position.step, epoch=self.position.epoch + 1)

    def _restore(self, step: int, optimizer: bool) -> TrainingPosition:
        position, arrays, facts = checkpoints.Checkpoint(self.around.checkpoints / f"step-{step:08d}").read()
        checkpoints.check_same_training(facts, self.around.facts)
        self.step.restore(arrays, optimizer)
        return position

    def _take_the_best(self) -> None:
        """After an early stop, the weights and the metrics of the best validation."""
        spec, best = self.train.early_stop, self.position.best_step
        if spec is None or not spec.restore_best or best is None or best == self.position.step:
            return
        metrics = self._restore(best, optimizer=False).metrics
        self.position = replace(self.position, metrics=metrics)

    # ---- small things ------------------------------------------------------------------------------------

    def _means(self, sums: np.ndarray, prefix: str) -> dict[str, float]:
        """Metrics of sums over examples; none where there was no example."""
        places = {f"{prefix}loss": LOSS, f"{prefix}accuracy": CORRECT} if sums[COUNT] else {}
        return {name: float(sums[at] / sums[COUNT]) for name, at in places.items() if name in self.around.metrics}

    def _event(self, kind: str, **facts: Any) -> None:
        if self.strategy.chief:
            self.around.event(kind, **facts)

    def _beat(self, phase: str) -> None:
        position = self.position
        ended = phase == "checkpoint" and position.batch == 0  # the position is at the begin of the next epoch already
        self.around.watch.beat(phase, position.step, position.epoch + (not ended), self.rates.steps)


def _together(parts: Sequence[Iterator[Any]]) -> Iterator[list[Any]]:
    """One batch from each part at a time."""
    for batches in zip(*parts, strict=True):
        yield list(batches)


def _finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """JSON has no NaN."""
    return {name: value if np.isfinite(value) else None for name, value in metrics.items()}
