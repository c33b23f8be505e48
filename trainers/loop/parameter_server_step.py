"""The step of a coordinator: workers compute what it sends them, and the variables are on servers.

Synchronous: each worker returns the sums of a slice; the coordinator adds them up and updates the variables once. A
slice stays the same whoever computes it, so the steps are those of every other strategy, also after a loss.

Asynchronous: a worker takes a whole step by itself, on weights that other workers change meanwhile. Steps are counted
here: Keras 3 counts by reading and writing, so that its own count loses steps.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from saman.trainers import keras_compat
from saman.trainers.keras_compat import tf
from saman.trainers.loop.step import DataParallelStep
from saman.trainers.loop.step_times import StepTotals
from saman.trainers.program.loss_scale import LossScale
from saman.trainers.program.micro_batches import with_any_length
from saman.trainers.program.program import Program
from saman.trainers.program.sums import COUNT, METRICS, STOP, Sums
from saman.trainers.strategies.parameter_server import ParameterServerStrategy

_log = logging.getLogger(__name__)
_AHEAD = 2  # steps that wait for each worker: the next batch is there when it is ready
# What TensorFlow raises where the worker that holds a value is gone, or has started again without it.
_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.NotFoundError,
    tf.errors.InvalidArgumentError,
)


class ParameterServerStep(DataParallelStep):
    """A ``DataParallelStep`` whose passes run on workers."""

    strategy: ParameterServerStrategy

    def __init__(
        self, program: Program, strategy: ParameterServerStrategy, micro_batches: int, scale: LossScale
    ) -> None:
        """Prepare the graphs; nothing is traced before the first step.

        Args:
            program: The model, its objective and its optimiser; their variables are on servers.
            strategy: The coordinator.
            micro_batches: Of each slice.
            scale: The loss scale of the run, which must not be dynamic.
        """
        super().__init__(program, strategy, micro_batches, scale, stamps=False)
        self.train_many = None
        self._waiting: deque[_Result] = deque()
        self._steps = 0  # scheduled in all
        batch = tf.nest.map_structure(with_any_length, program.element_spec)
        number = tf.TensorSpec([], tf.int64)
        self._sums_of_slice = tf.function(self._slice_sums, input_signature=[number, number, batch], autograph=False)
        self._update_of_sums = tf.function(self._update_all, autograph=False)
        held = [
            keras_compat.tensor_of(variable) for variable in self._kept.values()
        ]  # none of the scale, which is fixed
        self._read = tf.function(lambda: [tf.identity(variable) for variable in held], autograph=False)
        self._measures = tf.function(self._validate_slice, input_signature=[batch], autograph=False)

    def train(self, step: int, rate: float, stop: float, batches: Sequence[Any]) -> StepTotals:
        """Schedule a step, and take it if it is synchronous; reading its totals waits for it."""
        self._steps = step + 1
        if self.strategy.synchronous:
            return self._train_together(step, rate, stop, batches)
        numbers = tf.constant(step, tf.int64), tf.constant(rate, tf.float64), tf.constant(stop, tf.float64)
        result = self._schedule(self._train, *numbers, list(batches))
        self._waiting.append(result)
        while len(self._waiting) > _AHEAD * self.strategy.workers:
            self._waiting.popleft().value()
        return StepTotals(_Part(result, 0), None, _Part(result, 2) if self._signs is not None else None)

    def _train_together(self, step: int, rate: float, stop: float, batches: Sequence[Any]) -> StepTotals:
        number = tf.constant(step, tf.int64)
        asked = [
            self._schedule(self._sums_of_slice, number, tf.constant(part.index, tf.int64), batch)
            for part, batch in zip(self.slices, batches, strict=True)
        ]
        parts = [tf.nest.map_structure(tf.constant, result.value()) for result in asked]
        rate, stop = tf.constant(rate, tf.float64), tf.constant(stop, tf.float64)
        measures, signs = self._update_of_sums(rate, stop, [list(sums) for sums, _ in parts], [own for _, own in parts])
        return StepTotals(measures, None, signs if self._signs is not None else None)

    def validate(self, batches: Sequence[Any]) -> np.ndarray:
        """Return float64[width] measures of the examples in inference mode, computed by all workers."""
        self._settle()
        shares = list(batches) if len(batches) > 1 else _divided(batches[0], self.strategy.workers)
        asked = [self._schedule(self._measures, share) for share in shares]
        return np.sum([np.asarray(result.value()) for result in asked], axis=0)

    def snapshot(self) -> dict[str, np.ndarray]:
        """Return the state after all steps that were scheduled."""
        self._settle()
        return dict(self.state())

    def state(self) -> dict[str, np.ndarray]:
        """Return weights, optimiser state and loss scale by name, after all steps that were scheduled."""
        self._settle()
        return {name: np.asarray(value) for name, value in zip(self._kept, self._read(), strict=True)}

    def restore(self, state: dict[str, np.ndarray], optimizer: bool = True) -> None:
        """Load weights, and with ``optimizer`` also the optimiser state, after all steps that were scheduled."""
        self._settle(count=False)
        super().restore(state, optimizer)
        self._steps = 0  # whose count is in the state

    def swap_average(self) -> None:
        """Exchange the weights and their average after all steps that were scheduled."""
        self._settle()
        super().swap_average()

    def bad_weight(self) -> str | None:
        """Return the name of the first variable with a value that is not finite, after all steps so far."""
        self._settle()
        return super().bad_weight()

    def _schedule(self, graph: Any, *args: Any) -> _Result:
        return _Result(lambda: self.strategy.coordinator.schedule(graph, args=args), self.strategy.workers)

    def _settle(self, count: bool = True) -> None:
        """Wait for the steps that workers still take, and set the optimiser's count of steps to the true one."""
        while self._waiting:
            self._waiting.popleft().value()
        if count and self._steps and not self.strategy.synchronous:
            iterations = keras_compat.tensor_of(self.program.optimizer.iterations)
            iterations.assign(tf.cast(self._steps, iterations.dtype))

    # ---- graphs on a worker --------------------------------------------------------------------------------

    def _slice_sums(self, step: Any, index: Any, batch: Any) -> tuple[list[Any], Any]:
        """Return the sums of a slice with its flags before them, and its own part of its row of signs."""
        local = self._passes.sums(step, index, len(self.slices), batch)
        flags, own = self._own_signs(step, local)
        return [*flags, *local.tensors()], tf.zeros([1]) if own is None else own

    def _update_variables(self, step: Any, rate: Any, sums: list[Sums]) -> None:
        """Take a step with operations of servers that lose no update of others, where steps are asynchronous."""
        if self.strategy.synchronous:
            super()._update_variables(step, rate, sums)
            return
        iterations = keras_compat.tensor_of(self.program.optimizer.iterations)
        iterations.assign(tf.cast(step, iterations.dtype))  # for rules such as Adam's, which depend on it
        self._set_rate(rate)
        self.strategy.each_rank(lambda here, rank_sums: self._update.apply(rank_sums), sums)
        for variable, moved in zip(self._statistics, sums[0].moved, strict=True):
            keras_compat.tensor_of(variable).assign_add(moved / tf.cast(sums[0].measures[COUNT], moved.dtype))

    # ---- the graph of the coordinator ----------------------------------------------------------------------

    def _update_all(self, rate: Any, stop: Any, parts: list[list[Any]], own: list[Any]) -> tuple[Any, Any]:
        """Add up the sums of the slices and update the variables; return measures, and a row of signs per slice."""
        summed = [tf.add_n(list(tensors)) for tensors in zip(*parts, strict=True)]
        flagged = len(summed) - len(self._passes.zeros().tensors())
        total = self._passes.zeros().with_tensors(summed[flagged:])
        measures = tf.concat([total.measures[:STOP], stop[tf.newaxis], total.measures[METRICS:]], 0)
        total = total.with_tensors([*total.tensors()[:-1], measures])
        self._update_variables(None, rate, [total])
        if self._signs is None:
            return measures, tf.zeros([1, 1, 1])
        flag = summed[0] if flagged else None
        return measures, tf.stack([self._signs.row(flag, each, self._ranks_now()) for each in own])[tf.newaxis]

    def _predict_first(self, inputs: Any) -> Any:
        return self.program.predict(inputs)


class _Result:
    """What a worker computes; fetched once, when somebody wants it.

    Until then the value is in the worker's memory. If the worker is lost with it, another worker computes it again; an
    asynchronous step is then taken twice, as it is if a worker is lost between its update and its answer.
    """

    def __init__(self, schedule: Callable[[], Any], workers: int) -> None:
        """Schedule the computation.

        Args:
            schedule: Schedules it on any worker; returns TensorFlow's ``RemoteValue``.
            workers: The number of workers, and so of those that can be lost one after the other.
        """
        self._schedule, self._workers = schedule, workers
        self._remote, self._value = schedule(), None

    def value(self) -> Any:
        """Wait for the result."""
        for left in reversed(range(self._workers)):
            if self._remote is None:
                break
            try:
                self._value, self._remote = self._remote.fetch(), None
            except _LOST as error:
                if not left:
                    raise
                _log.info("a result is lost with its worker (%s); it is computed again", type(error).__name__)
                self._remote = self._schedule()
        return self._value


class _Part:
    """A tensor of a result, as an array when it is read."""

    def __init__(self, result: _Result, place: int) -> None:
        self._result, self._place = result, place

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self._result.value()[self._place], dtype)


def _divided(batch: Any, count: int) -> list[Any]:
    """Cut a batch into ``count`` shares, of which some may be empty."""
    return [tf.nest.map_structure(lambda tensor, at=at: tensor[at::count], batch) for at in range(count)]
