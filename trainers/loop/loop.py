"""The training loop. It knows neither its strategy nor how a step is computed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from saman.configs.schemas.training import Train
from saman.runs import checkpoints
from saman.runs.checkpoints import CheckpointPlan, CheckpointWriter, SavedCheckpoint, TrainingPosition
from saman.runs.ranks.heartbeats import Phase
from saman.runs.ranks.training_events import (
    CheckpointDamage,
    CheckpointSave,
    EpochEnd,
    FinalTest,
    MidwayValidation,
    Notice,
    Resumption,
    RolledBack,
    TrainingEvent,
)
from saman.trainers.data.feed import Feed
from saman.trainers.data.stream import KeptBatches, Stream
from saman.trainers.failures import TrainingFailure
from saman.trainers.health.response import Response, RollBack
from saman.trainers.loop import early_stop
from saman.trainers.loop.callbacks import Callbacks
from saman.trainers.loop.checkpoint_schedule import CheckpointSchedule
from saman.trainers.loop.interfaces import MOST_STEPS, Feeds, LoopEnvironment, OptimizerStep, TrainMany
from saman.trainers.loop.rates import plateau
from saman.trainers.loop.rates.by_step import Rates
from saman.trainers.program.sums import LOSS, STOP
from saman.trainers.strategies.base import Strategy, agree

STOP_POLL_SECONDS = 0.5
CALL_SECONDS = 0.25  # of a call that takes several steps: the granularity of progress and of stop requests
AGREE_CALLS = 8  # after so many calls the ranks agree anew on the steps of a call


class Loop:
    """Trains from the newest sound checkpoint to the end, or to a stop on which all ranks agree.

    Attributes:
        position: The steps taken so far, and what the loop carries from epoch to epoch.
    """

    def __init__(
        self,
        train: Train,
        strategy: Strategy,
        step: OptimizerStep,
        data: Feeds,
        rates: Rates,
        environment: LoopEnvironment,
    ) -> None:
        self.train, self.strategy, self.step, self.data = train, strategy, step, data
        self.rates, self.environment = rates, environment
        self._callbacks = Callbacks(environment.callbacks, strategy, bool(train.callbacks))
        self._no_sums = (0.0,) * step.width
        self.position = TrainingPosition(epoch_sums=self._no_sums)
        self._polled = 0.0
        self._stop = False
        self._traced: set[str] = set()  # the graphs that this attempt has compiled: for full batches, for any
        self._stream = Stream(step.slices)
        self._rest, self._validation = KeptBatches(step.slices), KeptBatches(step.slices)
        self._seconds_per_step = math.inf
        self._schedule = CheckpointSchedule(train.checkpoint, strategy, environment.mtbf_seconds)
        self._writer = CheckpointWriter(self._checkpoint_plan())
        self._response = Response(train, strategy, step.variable_names, self._record)
        self._calls, self._call_steps = 0, 1  # of the graph that takes several steps; equal on all ranks

    @property
    def finished(self) -> bool:
        """Whether no step is left to take."""
        return self.position.ended or self.position.step >= self.rates.steps

    def run(self, complete: Callable[[bool], None] = lambda finished: None) -> bool:
        """Train; return ``True`` at the end of the training, ``False`` after a requested stop.

        The last checkpoint is on disk then, on whatever rank it was written.

        Args:
            complete: Called by all ranks at the end, with the result.
        """
        self._resume()
        return self._run_on(complete)

    def _run_on(self, complete: Callable[[bool], None]) -> bool:
        """Train from ``position`` on."""
        self._schedule.begin(self.position.step)
        self._callbacks.begin(self.position.callbacks)
        finished = self._take_all_steps()
        self._finish_checkpoint()
        if finished:
            self._restore_best()
            self._test()
            self._callbacks.end(self.position.metrics)
        complete(finished)
        return finished

    def _take_all_steps(self) -> bool:
        while not self.finished or (self.position.batch and self._at_end_of_epoch()):
            try:
                self._run_epoch()
            except RollBack as asked:
                self._roll_back(asked.step)
                continue
            if self._at_end_of_epoch():
                self._end_epoch()
            elif self._stop and not self.finished:
                self._save_checkpoint()
            if self._stop and not self.finished:
                return False
        return True

    # ---- an epoch ----------------------------------------------------------------------------------------

    def _run_epoch(self) -> None:
        """Take steps up to the end of the epoch, the last step of the run, or a window with a stop request."""
        feed = self.data.train(self.position.epoch)
        if not self.position.batch:
            self._callbacks.begin_epoch(self.position.epoch)
        self.environment.telemetry.pause()
        for full in self._windows(feed):
            last = self._at_end_of_epoch()
            due = self._schedule.is_due(self.position.step) and not last
            validates = self._validates_now and not last
            if full or last or due or validates:
                self._close_window()
            if last or self._stop:
                return
            saved = validates and self._validate_midway()
            if self.finished:
                return
            if due and not saved:
                self._save_checkpoint()

    @property
    def _validates_now(self) -> bool:
        every = self.train.validate_every_steps
        return every is not None and self.position.step % every == 0

    def _validate_midway(self) -> bool:
        """Validate within an epoch and judge an early stop; return whether a checkpoint was saved."""
        position = self.position
        metrics = self._evaluate(self.data.validation(position.epoch), "val_")
        self._record(MidwayValidation(position.step, position.epoch + 1, _without_nan(metrics)))
        self.position = self._judge(replace(position, metrics={**position.metrics, **metrics}), metrics)
        saves = self.finished or self._is_best
        if saves:
            self._save_checkpoint()
        self.environment.telemetry.pause()
        return saves

    def _judge(self, position: TrainingPosition, metrics: Mapping[str, float]) -> TrainingPosition:
        """Decide on an early stop after a validation."""
        spec = self.train.early_stop
        if spec is None or spec.metric not in metrics:
            return position
        return early_stop.judge(position, spec, agree(self.strategy, metrics[spec.metric]))

    def _reduce_rate(self, position: TrainingPosition, metrics: Mapping[str, float]) -> TrainingPosition:
        """Decide on a lower learning rate after an epoch; all ranks decide alike."""
        spec = self.train.learning_rate.reduce_on_plateau
        if spec is None or spec.metric not in metrics:
            return position
        rate = self.rates(position.step - 1)
        now = plateau.judge(position, spec, agree(self.strategy, metrics[spec.metric]), rate)
        if now.rate_scale < position.rate_scale:
            waited = f"{spec.metric} has not improved for {spec.patience} epochs"
            rate = plateau.reduced(rate, now, spec)
            self._record(Notice(f"after epoch {position.epoch + 1}: {waited}; the learning rate is now {rate:.3g}"))
        return now

    @property
    def _is_best(self) -> bool:
        """Whether the last validation was the best so far, and its weights may be restored."""
        spec = self.train.early_stop
        return spec is not None and spec.restore_best and self.position.best_step == self.position.step

    def _windows(self, feed: Feed) -> Iterator[bool]:
        """Take the epoch's steps; yield after each call of a graph whether the telemetry window is full.

        The graph reads full batches, several steps per call; the rest follow in single steps.
        """
        while self.step.train_many is not None and self.position.batch < feed.full_steps:
            if self._skips_next:
                yield self._skip_step()
            else:
                yield self._take_steps(self.step.train_many, feed, self._steps_per_call(feed))
        began = time.perf_counter()
        for batches in _zip_batches(self._rest.until_end(feed, self.position.batch)):
            if self._skips_next:
                yield self._skip_step()
            else:
                yield self._take_step(batches, input_wait_seconds=time.perf_counter() - began)
            began = time.perf_counter()

    def _steps_per_call(self, feed: Feed) -> int:
        """As many steps as take about ``CALL_SECONDS``, and not beyond what happens between steps.

        All ranks take the same steps in a call, so that they see a stop request after the same step.
        """
        if "stream" not in self._traced:
            return 1
        self._calls += 1
        if self._calls % AGREE_CALLS == 0 or self._calls & (self._calls - 1) == 0:  # soon, then from time to time
            self._call_steps = max(1, int(agree(self.strategy, CALL_SECONDS // self._seconds_per_step)))
        ends = [MOST_STEPS, self._call_steps, feed.full_steps - self.position.batch]
        ends.append(self.rates.steps - self.position.step)
        if (left := self._schedule.steps_left(self.position.step)) is not None:
            ends.append(left)
        if (every := self.train.validate_every_steps) is not None:
            ends.append(every - self.position.step % every)
        ends += [skipped - 1 - self.position.step for skipped in self.position.skipped if skipped > self.position.step]
        return self.environment.telemetry.fit(min(ends))

    def _take_steps(self, train_many: TrainMany, feed: Feed, steps: int) -> bool:
        """Take steps on full batches in one call; return whether the telemetry window is full."""
        step, compiled = self.position.step, self._begin_call("stream")
        streams = self._stream.iterators(feed, self.position.batch)
        began = time.perf_counter()
        rates = [self._rate(number) for number in range(step, step + steps)]
        totals = train_many(step, rates, self._poll_stop_request(), streams)
        self._stream.advance(steps)
        if not compiled:
            self._seconds_per_step = (time.perf_counter() - began) / steps
        self.position = replace(self.position, step=step + steps, batch=self.position.batch + steps)
        samples = steps * self._samples_per_step(feed) if self.step.counts_examples else 0
        self._response.add(step, totals.signs)
        full = self.environment.telemetry.add(steps, samples, totals, compiled=compiled)
        self._note_pace()
        return full

    def _rate(self, step: int) -> float:
        """Return the learning rate of ``step``, counted from 0."""
        return plateau.reduced(self.rates(step), self.position, self.train.learning_rate.reduce_on_plateau)

    def _samples_per_step(self, feed: Feed) -> int:
        """Return the examples of a full global batch that this process reads."""
        return sum(len(range(part.index, feed.global_batch_size, part.count)) for part in self.step.slices)

    def _take_step(self, batches: list[Any], input_wait_seconds: float) -> bool:
        """Take one optimiser step; return whether the telemetry window is full."""
        step, compiled = self.position.step, self._begin_call("batch")
        totals = self.step.train(step, self._rate(step), self._poll_stop_request(), batches)
        samples = sum(_examples(batch) for batch in batches) if self.step.counts_examples else 0
        self.position = replace(self.position, step=step + 1, batch=self.position.batch + 1)
        self._response.add(step, totals.signs)
        return self.environment.telemetry.add(
            1, samples, totals, input_wait_seconds=input_wait_seconds, compiled=compiled
        )

    @property
    def _skips_next(self) -> bool:
        """Whether the next step is left out: its gradient was not finite."""
        return self.position.step + 1 in self.position.skipped

    def _skip_step(self) -> bool:
        """Count a step without taking it, so that later steps keep their batch, learning rate and seeds."""
        if self.environment.telemetry.steps:
            self._close_window()
        self.position = replace(self.position, step=self.position.step + 1, batch=self.position.batch + 1)
        return False

    def _begin_call(self, graph: str) -> bool:
        """Report progress; return whether the call compiles its graph. Such a call has a window of its own."""
        self._writer.raise_failure()
        compiled = graph not in self._traced
        if compiled and self.environment.telemetry.steps:
            self._close_window()
        self._traced.add(graph)
        self._beat(Phase.COMPILE if compiled else Phase.TRAIN)
        return compiled

    def _at_end_of_epoch(self) -> bool:
        return self.position.batch == self.data.steps_per_epoch or self.position.step == self.rates.steps

    def _close_window(self) -> None:
        """Close the telemetry window. Every rank closes the same windows and reads the same sums.

        So all ranks see a stop request after the same step.
        """
        position = self.position
        self._response.close_window(len(position.skipped))
        total = self.environment.telemetry.close_window(
            position.step, position.epoch + 1, self._rate, **self.step.close_window()
        )
        self._note_pace()
        self._stop = bool(total[STOP] > 0)
        if not np.isfinite(total[LOSS]) and np.isfinite(position.epoch_sums[LOSS]):
            self._record(Notice(f"the loss is {total[LOSS]} in the window that ends with step {position.step}"))
        self.position = replace(position, epoch_sums=tuple(float(x) for x in np.add(position.epoch_sums, total)))

    def _poll_stop_request(self) -> float:
        """Return 1.0 on the chief if a stop is requested; it looks at most twice a second."""
        now = time.monotonic()
        if not self.strategy.chief or now - self._polled < STOP_POLL_SECONDS:
            return 0.0
        self._polled = now
        return float(self.environment.stop_request.exists())

    def _end_epoch(self) -> None:
        """Compute and record the epoch's metrics, decide on an early stop, save a checkpoint if it is due."""
        position = self.position
        metrics = self._means(np.array(position.epoch_sums), "")
        final = position.step == self.rates.steps
        if final or (position.epoch + 1) % self.train.validate_every_epochs == 0:
            metrics.update(self._evaluate(self.data.validation(position.epoch), "val_"))
        position = self._judge(replace(position, metrics=metrics), metrics)
        position = self._reduce_rate(position, metrics)
        if self._callbacks.end_epoch(position.epoch, metrics):
            position = replace(position, ended=True)
        position = replace(position, callbacks=self._callbacks.state())
        self._record(EpochEnd(position.epoch + 1, position.step, _without_nan(metrics)))
        self.position = replace(position, epoch=position.epoch + 1, batch=0, epoch_sums=self._no_sums)
        every = self.train.checkpoint.every_epochs
        if self.finished or self._stop or self._is_best or (every and self.position.epoch % every == 0):
            self._save_checkpoint()

    def _test(self) -> None:
        """Evaluate the final model on the test examples, which nothing else sees."""
        metrics = self._evaluate(self.data.test(), "test_")
        if metrics:
            self._record(FinalTest(_without_nan(metrics)))
            self.position = replace(self.position, metrics={**self.position.metrics, **metrics})

    def _evaluate(self, feed: Feed | None, prefix: str) -> dict[str, float]:
        if feed is None:
            return {}
        self._callbacks.begin_test()
        sums = np.zeros(self.step.width)
        with self._averaged():
            sums = self._total_of(feed, sums)
        metrics = self._means(self.strategy.total(sums), prefix)
        self._callbacks.end_test(metrics)
        return metrics

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Validate what will be exported: the average of the weights, if that is the choice."""
        swaps = self.train.ema is not None and self.train.ema.export
        if swaps:
            self.step.swap_average()
        try:
            yield
        finally:
            if swaps:
                self.step.swap_average()

    def _total_of(self, feed: Feed, sums: np.ndarray) -> np.ndarray:
        for batches in _zip_batches(self._validation.until_end(feed, 0)):
            self._beat(Phase.VALIDATE)
            sums += self.step.validate(batches)
        return sums

    # ---- checkpoints -------------------------------------------------------------------------------------

    def _checkpoint_plan(self) -> CheckpointPlan:
        return CheckpointPlan(
            folder=self.environment.checkpoints,
            facts=self.environment.training_facts,
            keep=self.train.checkpoint.keep,
            part=self.step.part,
            parts=self.step.parts,
            divided=self.step.divided,
            publishes=self.strategy.chief,
            record=self._record_checkpoint,
        )

    def _save_checkpoint(self) -> None:
        """Take a snapshot of this process's part of the state; it is written while the training goes on."""
        self._beat(Phase.CHECKPOINT)
        bad_weight = None if self.train.on_nonfinite == "report" else self.step.bad_weight()
        self._response.before_checkpoint(self.position.step, self.step.checksums(), bad_weight)
        last = self._stop or self.finished
        self._writer.begin(self.position, self.step.snapshot, last=last)
        if not last:
            self._schedule.note_saved(self.position.step)
        self.environment.telemetry.pause()

    def _finish_checkpoint(self) -> None:
        """Wait until the last checkpoint is on disk, on all ranks: a rank that ends early may take the others along."""
        self._beat(Phase.CHECKPOINT)
        self._writer.finish()
        self.strategy.total(np.zeros(1))

    def _record_checkpoint(self, saved: SavedCheckpoint) -> None:
        """Record a checkpoint as an event; called by the thread that wrote it."""
        self._schedule.measure(saved.waited_seconds, saved.seconds)
        seconds, waited = round(saved.seconds, 3), round(saved.waited_seconds, 3)
        step, name = saved.checkpoint.step, saved.checkpoint.path.name
        self.environment.record(CheckpointSave(step, name, seconds, waited))

    def _resume(self) -> None:
        """Continue from the newest sound checkpoint, which the chief chooses; without any, from the chief's weights."""
        chosen = self._newest_checkpoint()
        if chosen is None:
            self.step.make_identical()
            if self.train.on_nonfinite == "rollback":  # there must be a way back from the first steps too
                self._save_checkpoint()
            return
        self.position = self._restore(chosen, optimizer=True)
        self._record(Resumption(self.position.step, self.position.epoch + 1))

    def _newest_checkpoint(self) -> int | None:
        """The step of the newest sound checkpoint, which the chief chooses."""
        folder, chosen = self.environment.checkpoints, -1
        if self.strategy.chief:
            checkpoints.discard_drafts(folder)
            for candidate, problem in checkpoints.newest_sound(folder):
                if problem is None:
                    chosen = candidate.step
                else:
                    self._record(CheckpointDamage(candidate.path.name, problem))
        chosen = int(agree(self.strategy, chosen))
        return None if chosen < 0 else chosen

    def _roll_back(self, step: int) -> None:
        """Go back to the newest sound checkpoint; leave ``step``, counted from 1, out from now on."""
        self._finish_checkpoint()
        chosen, skipped = self._newest_checkpoint(), (*self.position.skipped, step)
        if chosen is None:
            raise TrainingFailure(
                f"step {step}: a gradient is not finite, and no sound checkpoint is left to go back to"
            )
        self.position = replace(self._restore(chosen, optimizer=True), skipped=skipped)
        self._stop = False
        self._schedule.begin(self.position.step)
        self._record(RolledBack(chosen, step))

    def _restore(self, step: int, optimizer: bool) -> TrainingPosition:
        position, arrays, facts = checkpoints.checkpoint_of(self.environment.checkpoints, step).read()
        checkpoints.check_same_training(facts, self.environment.training_facts)
        self.step.restore(arrays, optimizer)
        sums = (*position.epoch_sums, *self._no_sums)[: len(self._no_sums)]  # other metrics than before start at 0
        return replace(position, epoch_sums=sums)

    def _restore_best(self) -> None:
        """After an early stop, restore the weights and the metrics of the best validation."""
        spec, best = self.train.early_stop, self.position.best_step
        if spec is None or not spec.restore_best or best is None or best == self.position.step:
            return
        metrics = self._restore(best, optimizer=False).metrics
        self.position = replace(self.position, metrics=metrics)

    # ---- reports -----------------------------------------------------------------------------------------

    def _means(self, sums: np.ndarray, prefix: str) -> dict[str, float]:
        """Return the metrics of float64[width] sums over examples; none for sums over no example."""
        found = {f"{prefix}{name}": value for name, value in self.step.results(sums).items()}
        return {name: value for name, value in found.items() if name in self.environment.metrics}

    def _record(self, event: TrainingEvent) -> None:
        if self.strategy.chief:
            self.environment.record(event)

    def _note_pace(self) -> None:
        self.environment.observer.note_pace(self.environment.telemetry.pace(), self.step.stage)

    def _beat(self, phase: Phase) -> None:
        position = self.position
        # A checkpoint at the end of an epoch is saved when the position is already at the start of the next.
        ended = phase is Phase.CHECKPOINT and position.batch == 0
        self.environment.observer.beat(phase, position.step, position.epoch + (not ended), self.rates.steps)


def _examples(batch: Any) -> int:
    """Return the number of examples of a batch: inputs, labels, perhaps weights."""
    labels = batch[1]
    while not hasattr(labels, "shape"):  # a nest, for several outputs
        labels = next(iter(labels.values() if isinstance(labels, Mapping) else labels))
    return int(labels.shape[0])


def _zip_batches(parts: Sequence[Iterator[Any]]) -> Iterator[list[Any]]:
    """Yield lists with one batch from each part."""
    for batches in zip(*parts, strict=True):
        yield list(batches)


def _without_nan(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Replace values that are not finite, which JSON lacks, by ``None``."""
    return {name: value if np.isfinite(value) else None for name, value in metrics.items()}
