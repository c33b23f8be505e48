"""Data-parallel optimiser step as one graph: Σ of gradients here, Σ over ranks, ÷ examples, update.

micro-batches of a rank ──► Σ gradients, Σ moved statistics, [Σ loss, Σ correct, count, stop]
                               │ strategy.combine: once, over all ranks
                               ▼
              ÷ global count ──► clip ──► optimiser (skipped on all ranks if half precision overflowed)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from saman.runs.ranks.training_events import Notice
from saman.trainers import keras_compat
from saman.trainers.data.feed import Slice
from saman.trainers.health.signs import Signs, checksum, first_not_finite, halves
from saman.trainers.keras_compat import tf
from saman.trainers.loop.interfaces import MOST_STEPS, TrainMany
from saman.trainers.loop.step_times import StepTotals
from saman.trainers.program.loss_scale import LossScale
from saman.trainers.program.micro_batches import with_any_length
from saman.trainers.program.passes import RankPasses
from saman.trainers.program.program import Program
from saman.trainers.program.snapshot import SharedSnapshot
from saman.trainers.program.sums import COUNT, LOSS, METRICS, STOP, Sums
from saman.trainers.program.update import Update, value_here
from saman.trainers.strategies.base import Strategy
from saman.trainers.strategies.gradient_exchange import GradientExchange


class DataParallelStep:
    """An ``OptimizerStep`` in which every rank holds the whole model and computes its slice of each global batch."""

    def __init__(
        self,
        program: Program,
        strategy: Strategy,
        micro_batches: int,
        scale: LossScale,
        exchange: bool = True,
        stamps: bool = True,
        jit_compile: bool = False,
        signs: bool = True,
        compare_every: int | None = None,
        gradient_exchange: GradientExchange | None = None,
    ) -> None:
        """Prepare the graphs; nothing is traced before the first step.

        Args:
            program: The model, its objective and its optimiser.
            strategy: Combines the ranks.
            micro_batches: Of each rank.
            scale: The loss scale of the run.
            exchange: Whether ranks are combined; ``False`` only to measure what combining costs.
            stamps: Whether the graph takes time stamps; ``False`` only to measure what they cost.
            jit_compile: Whether XLA compiles the passes and the update; the exchange stays outside.
            signs: Whether the steps carry signs of failure; ``False`` only to measure what they cost.
            compare_every: Steps between two comparisons of the ranks' weights; ``None`` for none.
            gradient_exchange: Combines gradients apart from everything else; ``None``: all in one exchange.
        """
        self.program, self.strategy, self.micro_batches, self.scale = program, strategy, micro_batches, scale
        self.slices = [Slice(rank, strategy.size) for rank in strategy.ranks]
        self.exchange, self.stamps, self.jit_compile = exchange and strategy.size > 1, stamps, jit_compile
        self.gradient_exchange = gradient_exchange
        self._passes = RankPasses(program, scale, micro_batches, jit_compile)
        self._variables, self._statistics = self._passes.variables, self._passes.statistics
        self._update = Update(program, scale, self._variables, self._statistics, jit_compile)
        self.width = program.objective.width
        self.notices: tuple[Notice, ...] = ()
        self.counts_examples = True
        self.train_many: TrainMany | None = self._train_on_streams if strategy.loops_in_graph else None
        variables = {**program.variables(), **scale.variables()}
        self._kept = variables
        self._share_snapshots(strategy.ranks[0] // len(strategy.ranks), strategy.size // len(strategy.ranks))
        self.stage: int | None = None
        self._signs = Signs(strategy.size, compare_every) if signs else None
        self.variable_names = tuple(map(keras_compat.name_of, self._variables))
        batches = [tf.nest.map_structure(with_any_length, program.element_spec) for _ in strategy.ranks]
        numbers = [tf.TensorSpec([], tf.int64), tf.TensorSpec([], tf.float64), tf.TensorSpec([], tf.float64)]
        self._train = tf.function(self._whole_step, input_signature=[*numbers, batches], autograph=False)
        self._steps_graph = tf.function(self._take_steps, autograph=False)
        self._predict = tf.function(self._predict_first, input_signature=[batches[0][0]], autograph=False)
        self._validate = tf.function(self._validate_all, input_signature=[batches], autograph=False)
        self._checksums = tf.function(self._checksums_here, autograph=False)
        self._bad_weight = tf.function(self._bad_weight_here, autograph=False)
        self._swap = tf.function(self._update.swap_average, autograph=False)

    @property
    def _sign_type(self) -> Any:
        """The type of a row of signs."""
        kinds = [tf.as_dtype(keras_compat.tensor_of(variable).dtype) for variable in self._variables]
        return tf.float32 if self._signs is None else self._signs.type_of(kinds)

    def _share_snapshots(self, process: int, processes: int) -> None:
        """Divide checkpoints among the processes."""
        self._snapshot = SharedSnapshot(self._kept, process, processes)
        self.part, self.parts, self.divided = self._snapshot.part, self._snapshot.parts, self._snapshot.divided

    def without_exchange(self) -> DataParallelStep:
        """Return the same step without combining ranks; its only use is to measure what combining costs."""
        return DataParallelStep(
            self.program,
            self.strategy,
            self.micro_batches,
            self.scale,
            exchange=False,
            jit_compile=self.jit_compile,
            signs=self._signs is not None,
        )

    # ---- what the loop calls; see ``OptimizerStep`` -----------------------------------------------------------

    def train(self, step: int, rate: float, stop: float, batches: Sequence[Any]) -> StepTotals:
        """Take one step; its totals need not be read at once."""
        number, rate = tf.constant(step, tf.int64), tf.constant(rate, tf.float64)
        return self._totals(*self._train(number, rate, _double(stop), list(batches)))

    def _train_on_streams(self, step: int, rates: Sequence[float], stop: float, streams: Sequence[Any]) -> StepTotals:
        """Take the steps in one call of a graph that reads the streams itself."""
        padded = np.zeros(MOST_STEPS)
        padded[: len(rates)] = rates
        count, first = tf.constant(len(rates)), tf.constant(step, tf.int64)
        totals = self._totals(*self._steps_graph(first, tf.constant(padded), count, _double(stop), list(streams)))
        np.asarray(totals.measures)  # wait for the steps: the loop plans the next call by the time of this call
        return totals

    def _totals(self, measures: Any, stamps: Any, signs: Any) -> StepTotals:
        return StepTotals(measures, stamps if self.stamps else None, signs if self._signs is not None else None)

    def checksums(self) -> np.ndarray | None:
        """Return float64[ranks here, 2]: the checksum of each rank's weights; ``None`` if ranks are not compared."""
        return np.asarray(self._checksums()) if self._signs is not None and self._signs.compares else None

    def validate(self, batches: Sequence[Any]) -> np.ndarray:
        """Return float64[width] measures of this process's examples in inference mode."""
        return np.asarray(self._validate(list(batches)))

    def predict(self, inputs: Any) -> Any:
        """Return the outputs for a batch of raw inputs, computed on the first device; a nest of arrays for several."""
        return tf.nest.map_structure(np.asarray, self._predict(inputs))

    def snapshot(self) -> dict[str, np.ndarray]:
        """Return this process's share of ``state()``; later steps do not change its values."""
        return self._snapshot()

    def state(self) -> dict[str, np.ndarray]:
        """Return the weights, the optimiser state and the loss scale by name."""
        return {**self.program.state(), **self.scale.state()}

    def whole_state(self) -> dict[str, np.ndarray]:
        """Return ``state()``: every rank holds the whole model."""
        return self.state()

    def results(self, sums: np.ndarray) -> dict[str, float]:
        """Return the metrics by name for sums over examples."""
        return self.program.objective.results(sums)

    def swap_average(self) -> None:
        """Exchange the weights and their moving average; a second call undoes it."""
        self._swap()

    def close_window(self) -> dict[str, Any]:
        """Return no fields: telemetry measures everything that this step has to report."""
        return {}

    def bad_weight(self) -> str | None:
        """Return the name of the first weight or moving statistic here with a value that is not finite."""
        number = int(self._bad_weight())
        return keras_compat.name_of([*self._variables, *self._statistics][number - 1]) if number else None

    def restore(self, state: dict[str, np.ndarray], optimizer: bool = True) -> None:
        """Load weights, and with ``optimizer`` also the optimiser state and the loss scale."""
        self.program.restore(state, optimizer)
        if optimizer:
            self.scale.restore(state)

    def make_identical(self) -> None:
        """Give every rank the chief's weights and optimiser state."""
        held = self.program.variables().values()
        self.strategy.make_identical([keras_compat.tensor_of(variable) for variable in held])

    # ---- the graph ----------------------------------------------------------------------------------------

    def _take_steps(self, step: Any, rates: Any, count: Any, stop: Any, streams: list[Any]) -> Any:
        """Take ``count`` steps; return float64[count, width] measures, float64[count, 3] time stamps, and signs."""

        def take(index: Any, measures: Any, rows: Any, signs: Any) -> Any:
            began = self._stamp_after([])
            with tf.control_dependencies([began]):
                batches = [stream.get_next() for stream in streams]
            waited = self._stamp_after(tf.nest.flatten(batches)) - began
            more, stamps, row = self._timed_step(step + tf.cast(index, tf.int64), rates[index], stop, batches)
            rows = rows.write(index, tf.stack([waited, *stamps])) if self.stamps else rows
            signs = signs.write(index, row) if self._signs is not None else signs
            return index + 1, measures.write(index, more), rows, signs

        arrays = [tf.TensorArray(tf.float64, size=count, element_shape=[width]) for width in (self.width, 3)]
        shape = [1] if self._signs is None else None  # nothing is written without signs
        arrays.append(tf.TensorArray(self._sign_type, size=count, element_shape=shape))
        start = [tf.constant(0), *arrays]
        _, *arrays = tf.while_loop(lambda index, *_: index < count, take, start, parallel_iterations=1)
        return [array.stack() for array in arrays]

    def _whole_step(self, step: Any, rate: Any, stop: Any, batches: list[Any]) -> tuple[Any, Any, Any]:
        measures, stamps, signs = self._timed_step(step, rate, stop, batches)
        return measures, tf.stack([_double(0.0), *stamps])[tf.newaxis], signs[tf.newaxis]

    def _stamp_after(self, tensors: list[Any]) -> Any:
        """Return the Unix time, in seconds, at which all of ``tensors`` are known; 0 without time stamps."""
        if not self.stamps:
            return _double(0.0)
        with tf.control_dependencies(tensors):
            return tf.timestamp()

    def _timed_step(self, step: Any, rate: Any, stop: Any, batches: list[Any]) -> tuple[Any, list[Any], Any]:
        """Take a step; return its float64[width] measures, when gradients were ready and sums received here, and signs.

        Of several ranks in this process the last counts for the times: they meet in the exchange.
        """
        results = self.strategy.each_rank(
            lambda here, batch: self._global_sums(step, stop, self.slices[here], batch), batches
        )
        sums = [self._passes.zeros().with_tensors(tensors) for tensors, *_ in results]
        self._carry_out(step, sums[0].measures, lambda: self._update_variables(step, rate, sums))
        ready, received = ([stamps[place] for _, stamps, _ in results] for place in range(2))
        stamps = [times[0] if len(times) == 1 else tf.reduce_max(times) for times in (ready, received)]
        return sums[0].measures, stamps, tf.stack([row for *_, row in results])

    def _update_variables(self, step: Any, rate: Any, sums: list[Sums]) -> Any:
        """Update the variables once the sums over all ranks are here, as each of the ranks here holds them."""
        self._set_rate(rate)

        def update() -> Any:
            kept = self._update.before()
            self.strategy.each_rank(lambda here, rank_sums: self._update.apply(rank_sums), sums)
            self._update.after(kept)
            self._update.move_statistics(sums[0])
            return tf.constant(True)

        if not self.scale.dynamic:
            return update()
        finite = _all_finite(sums[0].gradients)
        with tf.control_dependencies([tf.cond(finite, update, lambda: tf.constant(False))]):
            self.scale.adjust(finite)
        return finite

    def _set_rate(self, rate: Any) -> None:
        variable = keras_compat.rate_variable(self.program.optimizer)
        variable.assign(tf.cast(rate, variable.dtype))

    def _carry_out(self, step: Any, measures: Any, update: Callable[[], Any]) -> None:
        """Apply the sums of a step."""
        update()

    def _place(self, part: Slice) -> tuple[Any, Any]:
        """Return the number of a slice, and the number of slices."""
        return tf.constant(part.index, tf.int64), part.count

    def _ranks_now(self) -> Any:
        """Return how many ranks take the step."""
        return self.strategy.size

    def _global_sums(self, step: Any, stop: Any, part: Slice, batch: Any) -> tuple[list[Any], list[Any], Any]:
        """Return the sums over all ranks, every rank's stop request among the measures, two time stamps, and signs.

        The time stamps say when this rank's last gradient was ready, and when it had the sums of all ranks.
        """
        local = self._passes.sums(step, *self._place(part), batch)
        measures = tf.concat([local.measures[:STOP], stop[tf.newaxis], local.measures[METRICS:]], 0)
        tensors = Sums(local.gradients, local.moved, measures).tensors()
        flags, own = self._own_signs(step, local)
        # The flags need the last gradient: first in the list, they travel in the last message.
        tensors = [*flags, *tensors]
        ready = self._stamp_after(tensors)
        summed = self._combine(tensors) if self.exchange else tensors
        stamps = [ready, self._stamp_after(summed) if self.exchange else ready]
        signs = tf.zeros([1])
        if self._signs is not None:
            signs = self._signs.row(summed[0] if flags else None, own, self._ranks_now())
        return summed[len(flags) :], stamps, signs

    def _own_signs(self, step: Any, local: Sums) -> tuple[list[Any], Any]:
        """Return what a rank adds to its exchange, in a list, and its own part of its row of signs."""
        if self._signs is None:
            return [], None
        masked = None
        if self.scale.dynamic:  # a smaller scale may make the gradients finite; it cannot help a loss that is not
            masked = tf.logical_and(self.scale.value > 1.0, tf.math.is_finite(local.measures[LOSS]))
        flags, own = self._signs.own(
            local.gradients, masked, step, self._weights_here() if self._signs.compares else []
        )
        return [flags] if self.exchange else [], own

    def _weights_here(self) -> list[Any]:
        """The values of the weights and of the moving statistics, as this rank holds them."""
        return [tf.convert_to_tensor(keras_compat.tensor_of(each)) for each in (*self._variables, *self._statistics)]

    def _bad_weight_here(self) -> Any:
        held = (value_here(keras_compat.tensor_of(each)) for each in (*self._variables, *self._statistics))
        return first_not_finite(list(held))

    def _checksums_here(self) -> Any:
        return tf.stack(
            self.strategy.each_rank(lambda here, _: tf.stack(halves(checksum(self._weights_here()))), self.slices)
        )

    def _combine(self, tensors: list[Any]) -> list[Any]:
        if self.gradient_exchange is None:
            return self._combine_exactly(tensors)
        zeros = self._passes.zeros()
        flags, sums = tensors[: -len(zeros.tensors())], tensors[-len(zeros.tensors()) :]
        local = zeros.with_tensors(sums)
        exact = self._combine_exactly([*flags, *local.moved, local.measures])
        counts = local.measures[COUNT], exact[-1][COUNT]
        gradients = self.gradient_exchange(local.gradients, self._passes.sparse, *counts)
        return [*exact[: len(flags)], *gradients, *exact[len(flags) :]]

    def _combine_exactly(self, tensors: list[Any]) -> list[Any]:
        """Sum over all ranks, in one message where the gradients are float32.

        Their measures travel as two float32 vectors; their sum holds each double to 48 bits.
        """
        *rest, measures = tensors
        if not all(tensor.dtype == tf.float32 for tensor in rest):
            return self.strategy.combine(tensors)
        high = tf.cast(measures, tf.float32)
        low = tf.cast(measures - _double(high), tf.float32)
        *rest, halves = self.strategy.combine([*rest, tf.stack([high, low])])
        return [*rest, _double(halves[0]) + _double(halves[1])]

    def _validate_all(self, batches: list[Any]) -> Any:
        return tf.add_n(self.strategy.each_rank(lambda here, batch: self._validate_slice(batch), batches))

    def _validate_slice(self, batch: Any) -> Any:
        """Return float64[width] measures of a rank's part of a validation batch; zeros if it is empty."""

        def measure() -> Any:
            outputs = self.program.predict(batch[0])
            return self.program.objective.measure(batch[1], outputs, *batch[2:]).vector()

        examples = tf.shape(tf.nest.flatten(batch[1])[0])[0]
        return tf.cond(examples > 0, measure, lambda: tf.zeros([self.width], tf.float64))

    def _predict_first(self, inputs: Any) -> Any:
        outputs = self.strategy.each_rank(lambda here, batch: self.program.predict(batch), [inputs] * len(self.slices))
        return outputs[0]


def _all_finite(tensors: Sequence[Any]) -> Any:
    return tf.reduce_all([tf.reduce_all(tf.math.is_finite(tensor)) for tensor in tensors])


def _double(value: Any) -> Any:
    return tf.cast(value, tf.float64)
