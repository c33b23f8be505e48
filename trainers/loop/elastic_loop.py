"""The training loop of an elastic run: goes on in a new world at the step that was lost.

form a world ── agree on the state ── train ── all at the end ── leave the run
     ▲                                  │ an exchange fails
     └──── leave the world ◄────────────┘
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from saman.runs import checkpoints
from saman.runs.checkpoints import CheckpointWriter, TrainingPosition
from saman.runs.checkpoints.position_text import position_text, read_position
from saman.runs.elastic.messages import MemberReport, ReportKind, World
from saman.runs.ranks.heartbeats import Phase
from saman.runs.ranks.rank_events import FailureKind
from saman.runs.ranks.training_events import EpochEnd, TrainingEvent
from saman.trainers.data.feed import Feed
from saman.trainers.data.readers.damage import reported_error
from saman.trainers.failures import TrainingFailure, failure_kind
from saman.trainers.keras_compat import tf
from saman.trainers.loop.checkpoint_schedule import CheckpointSchedule
from saman.trainers.loop.elastic_step import ElasticStep
from saman.trainers.loop.interfaces import TrainMany
from saman.trainers.loop.loop import Loop
from saman.trainers.loop.step_times import StepTotals
from saman.trainers.strategies.elastic import ElasticHorovod


class _WaitingJoinersError(Exception):
    """Ranks wait to join a world of a single rank, in which no exchange can fail."""


class ElasticLoop(Loop):
    """A ``Loop`` whose ranks come and go."""

    strategy: ElasticHorovod
    step: ElasticStep
    _stepped = False  # whether the first step in this world is reported
    _text = ""  # of the position that was reported last; empty without whole state

    def run(self, complete: Callable[[bool], None] = lambda finished: None) -> bool:
        """Train; return ``True`` at the end of the training, ``False`` after a requested stop.

        Args:
            complete: Called by all ranks at the end, with the result.
        """
        if self.strategy.joins_later:
            self._rehearse()
        self.strategy.report(ReportKind.READY)
        self.strategy.on_stuck(self._held, self._save_alone)
        while (world := self._await_world()) is not None:
            self.strategy.form(world)
            try:
                self._agree(world)
                finished = self._run_on(complete)
                self.strategy.total(np.zeros(1))  # nobody ends while another may still need its state
                self.strategy.leave_run()
                return finished
            except _WaitingJoinersError:
                self._leave_world()
            except tf.errors.OpError as error:
                if not self._lost_peers(error):
                    raise
                self._leave_world()
        self.strategy.leave_run()
        return self.finished

    # ---- into a world ------------------------------------------------------------------------------------

    def _await_world(self) -> World | None:
        self._beat(Phase.WAIT)
        world = self.strategy.await_world()
        self._beat(Phase.TRAIN if self.position.step else Phase.COMPILE)
        return world

    def _rehearse(self) -> None:
        """Take a step alone and undo it: tracing its graph must not keep the others waiting."""
        self._beat(Phase.COMPILE)
        feed, state = self.data.train(0), self.step.state()
        self.strategy.form_alone()
        if self.step.train_many is not None and feed.full_steps:
            self.step.train_many(0, [0.0], 0.0, self._stream.iterators(feed, 0))
        else:
            self.step.train(0, 0.0, 0.0, [next(feed.batches(part, 0)) for part in self.step.slices])
        self.step.spread(self.strategy.ranks[0])
        self.strategy.dissolve()
        self.step.restore(dict(state))

    def _agree(self, world: World) -> None:
        """Give every member the same state and position, and every part of the loop its place in the world."""
        self.step.regroup()
        self.environment.telemetry.regroup(self.strategy.ranks, self.strategy.size, self.strategy.chief)
        self._writer.abandon()
        if self.strategy.chief:
            checkpoints.discard_drafts(self.environment.checkpoints)
        for batches in (self._stream, self._rest, self._validation):
            batches.regroup(self.step.slices)
        self._traced.clear()  # all ranks measure and agree alike from here
        self._schedule = CheckpointSchedule(self.train.checkpoint, self.strategy, self.environment.mtbf_seconds)
        self._response.regroup(world.slots)
        self._calls, self._call_steps, self._polled, self._stop, self._stepped = 0, 1, 0.0, False, False
        if world.source is None or (world.spread and world.source != self.strategy.ranks[0]):
            self.step.void_books()
        if world.source is None:
            self._begin_anew()
        else:
            if world.spread:
                self.step.spread(world.source)
            self.position = read_position(world.position)
        self.step.open_books(self.position.step, self.position.epoch_sums)
        if world.source is not None:
            self._record_missed_epoch()
            unsaved = self.strategy.total(np.array([float(self._checkpoint_is_missing())]))[0] > 0
            self._writer = CheckpointWriter(self._checkpoint_plan())
            if unsaved:
                self._save_checkpoint()
        self.strategy.report(ReportKind.AGREED)

    def _begin_anew(self) -> None:
        """Go on from the newest checkpoint, as no member holds a whole state; without any, from the first step."""
        trained, self.position = self.position.step > 0, TrainingPosition()
        self._writer = CheckpointWriter(self._checkpoint_plan())
        self._resume()
        if trained and self.strategy.chief and self.position.step == 0:
            raise TrainingFailure("every rank was interrupted inside an update, and there is no checkpoint")

    def _checkpoint_is_missing(self) -> bool:
        """Whether the newest checkpoint that this process has begun never became visible."""
        step = self._writer.newest_step
        folder = self.environment.checkpoints
        return step is not None and not checkpoints.checkpoint_of(folder, step).path.exists()

    def _record_missed_epoch(self) -> None:
        """Record the end of an epoch that the chief of the world before did not live to record."""
        position = self.position
        if position.epoch:
            self._record(EpochEnd(position.epoch, position.step, dict(position.metrics)))

    def _record(self, event: TrainingEvent) -> None:
        if isinstance(event, EpochEnd) and self.strategy.chief and self.environment.epochs_recorded() >= event.epoch:
            return  # by the chief of an earlier world
        super()._record(event)

    # ---- out of a world ----------------------------------------------------------------------------------

    def _lost_peers(self, error: Any) -> bool:
        """Whether an error is that of an exchange, and not one of this process alone."""
        return reported_error(error) is None and (
            self.strategy.must_leave or failure_kind(error) is FailureKind.PEER_LOST
        )

    def _leave_world(self) -> None:
        """Leave the world, settle what was applied, and report it with the position."""
        self.strategy.dissolve()
        books = self.step.books()
        if books.whole:
            self._settle(books.step, books.sums)
        self._text = position_text(self.position) if books.whole else ""
        self.strategy.report(ReportKind.LEFT, self.position.step, self.position.epoch, self._text)

    def _held(self) -> MemberReport:
        """What this process held when it left the last world."""
        return MemberReport(ReportKind.STUCK, 0, self.position.step, self.position.epoch, self._text)

    def _save_alone(self) -> None:
        """Write the whole state as a checkpoint: a peer died while a world was being formed, and nobody gets out."""
        plan = replace(self._checkpoint_plan(), part=0, parts=1, divided={}, publishes=True)
        writer = CheckpointWriter(plan)
        writer.begin(self.position, lambda: dict(self.step.state()), last=True)
        writer.finish()

    def _settle(self, step: int, sums: np.ndarray) -> None:
        """Bring position and telemetry up to the steps that were applied; a failed call has returned nothing."""
        position, telemetry = self.position, self.environment.telemetry
        missing = step - position.step
        if missing > 0:
            rest = sums - np.array(position.epoch_sums) - telemetry.sums()
            samples = missing * self._samples_per_step(self.data.train(position.epoch))
            telemetry.add(missing, samples, StepTotals(np.tile(rest / missing, (missing, 1))))
            self.position = replace(position, step=step, batch=position.batch + missing)
        if telemetry.steps:  # without the judgement of the window, which is an exchange
            position = self.position
            telemetry.close_window(position.step, position.epoch + 1, self._rate, **self.step.close_window())
            self.position = replace(position, epoch_sums=tuple(map(float, sums)))

    # ---- an epoch ----------------------------------------------------------------------------------------

    def _run_epoch(self) -> None:
        self.step.open_books(self.position.step, self.position.epoch_sums)
        super()._run_epoch()

    def _take_steps(self, train_many: TrainMany, feed: Feed, steps: int) -> bool:
        full = super()._take_steps(train_many, feed, steps)
        self._report_step()
        return full

    def _take_step(self, batches: list[Any], input_wait_seconds: float) -> bool:
        full = super()._take_step(batches, input_wait_seconds)
        self._report_step()
        return full

    def _report_step(self) -> None:
        if not self._stepped:
            self._stepped = True
            self.strategy.report(ReportKind.STEPPED)
        if self.strategy.size == 1 and self.strategy.must_leave:
            raise _WaitingJoinersError
