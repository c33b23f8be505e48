"""One optimiser step of data parallelism, as one graph: Σ of gradients here, Σ over ranks, ÷ examples, update.

micro-batches of a rank ──► Σ gradients, Σ moved statistics, [Σ loss, Σ correct, count, stop]
                               │ strategy.combine: once, over all ranks
                               ▼
              ÷ global count ──► clip ──► optimiser (skipped on all ranks where half precision overflowed)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from saman.trainers import keras_compat
from saman.trainers.data.feed import Slice
from saman.trainers.keras_compat import tf
from saman.trainers.loop.loss_scale import LossScale
from saman.trainers.program.program import Program
from saman.trainers.strategies.base import Strategy

LOSS, CORRECT, COUNT, STOP = range(4)  # places in a vector of sums


@dataclass(frozen=True)
class _Sums:
    """What one rank adds up; later, what all ranks have added up."""

    gradients: list[Any]
    moved: list[Any]  # of each moving statistic: Σ over micro-batches of count · (new - old)
    measures: Any  # float64[4]

    def tensors(self) -> list[Any]:
        return [*self.gradients, *self.moved, self.measures]

    def like(self, tensors: Sequence[Any]) -> _Sums:
        cut = len(self.gradients)
        return _Sums(list(tensors[:cut]), list(tensors[cut:-1]), tensors[-1])


class DataParallelStep:
    """Every rank holds the whole model and computes its slice of each global batch."""

    def __init__(
        self, program: Program, strategy: Strategy, micro_batches: int, scale: LossScale, exchange: bool = True
    ) -> None:
        self.program, self.strategy, self.micro_batches, self.scale = program, strategy, micro_batches, scale
        self.slices = [Slice(rank, strategy.size) for rank in strategy.ranks]
        self.exchange = exchange
        self.notes: tuple[dict[str, Any], ...] = ()
        self.counts_examples = True
        self.part = 0 if strategy.chief else None
        self.parts = 1
        self._variables = list(program.model.trainable_variables)
        self._statistics = keras_compat.statistics(program.model)
        self._random = len(keras_compat.random_sources(program.model))
        batches = [tf.nest.map_structure(any_length, program.element_spec) for _ in strategy.ranks]
        numbers = [tf.TensorSpec([], tf.int64), tf.TensorSpec([], tf.float64), tf.TensorSpec([], tf.float64)]
        self._train = tf.function(self._whole_step, input_signature=[*numbers, batches], autograph=False)
        self._predict = tf.function(self._prediction, input_signature=[batches[0][0]], autograph=False)
        self._validate = tf.function(self._validation_step, input_signature=[batches], autograph=False)

    # ---- what the loop calls ------------------------------------------------------------------------------

    def train(self, step: int, rate: float, stop: float, batches: Sequence[Any]) -> Any:
        """Take one step; ``batches`` has a pair for each slice. Returns float64[4], sums over the global batch.

        ``stop`` is summed over ranks along with the measures. The result need not be read at once.
        """
        return self._train(tf.constant(step, tf.int64), tf.constant(rate, tf.float64), _double(stop), list(batches))

    def validate(self, batches: Sequence[Any]) -> np.ndarray:
        """float64[4]: sums over the examples of this process alone, in inference mode."""
        return np.asarray(self._validate(list(batches)))

    def predict(self, inputs: Any) -> np.ndarray:
        """Outputs for a batch of raw inputs, in inference mode, on the first device of this process."""
        return np.asarray(self._predict(inputs))

    def state(self) -> dict[str, np.ndarray]:
        """Everything that a checkpoint needs of the weights and the optimiser."""
        return {**self.program.state(), **self.scale.state()}

    def without_exchange(self) -> DataParallelStep:
        """The same step, except that ranks do not combine; only to measure what combining costs."""
        return DataParallelStep(self.program, self.strategy, self.micro_batches, self.scale, exchange=False)

    def whole_state(self) -> dict[str, np.ndarray]:
        """The same: every rank holds everything."""
        return self.state()

    def measured(self) -> dict[str, Any]:
        """Nothing beyond what every step measures."""
        return {}

    def restore(self, state: dict[str, np.ndarray], optimizer: bool = True) -> None:
        """Continue from a state."""
        self.program.restore(state, optimizer)
        if optimizer:
            self.scale.restore(state)

    def make_identical(self) -> None:
        """Give every rank the chief's weights and optimiser."""
        optimizer = keras_compat.optimizer_state(self.program.optimizer, self._variables).values()
        variables = [keras_compat.tensor_of(one) for one in (*self.program.model.weights, *optimizer)]
        self.strategy.make_identical(variables)

    # ---- the graph ----------------------------------------------------------------------------------------

    def _whole_step(self, step: Any, rate: Any, stop: Any, batches: list[Any]) -> Any:
        results = self.strategy.each_rank(
            lambda here, batch: self._summed(step, stop, self.slices[here], batch).tensors(), batches
        )
        sums = [self._shape_of_sums().like(tensors) for tensors in results]
        variable = keras_compat.rate_variable(self.program.optimizer)
        variable.assign(tf.cast(rate, variable.dtype))

        def update() -> Any:
            self.strategy.each_rank(lambda here, one: self._apply(one), sums)
            self._move(sums[0])
            return tf.constant(True)

        if self.scale.dynamic:
            finite = _all_finite(sums[0].gradients)
            with tf.control_dependencies([tf.cond(finite, update, lambda: tf.constant(False))]):
                self.scale.adjust(finite)
        else:
            update()
        return sums[0].measures

    def _summed(self, step: Any, stop: Any, part: Slice, batch: Any) -> _Sums:
        local = self._local_sums(step, part, batch)
        flagged = tf.stack([*tf.unstack(local.measures)[:STOP], stop])
        local = _Sums(local.gradients, local.moved, flagged)
        return local.like(self.strategy.combine(local.tensors())) if self.exchange else local

    def _local_sums(self, step: Any, part: Slice, batch: Any) -> _Sums:
        """Sums over the micro-batches of one rank, each from the same weights and the same moving statistics."""
        if self.micro_batches == 1:
            return self._micro_batch(step, tf.constant(part.index, tf.int64), batch)

        def add(index: Any, *so_far: Any) -> list[Any]:
            piece = micro_batch(batch, index, self.micro_batches)
            number = part.index + part.count * tf.cast(index, tf.int64)
            more = self._micro_batch(step, number, piece).tensors()
            return [index + 1, *(one + other for one, other in zip(so_far, more, strict=True))]

        zeros = self._shape_of_sums().tensors()
        _, *tensors = tf.while_loop(
            lambda index, *_: index < self.micro_batches, add, [tf.constant(0), *zeros], parallel_iterations=1
        )
        return self._shape_of_sums().like(tensors)

    def _micro_batch(self, step: Any, number: Any, batch: Any) -> _Sums:
        """Sums over one micro-batch; where it is empty, zeros without touching the model."""
        zeros = self._shape_of_sums()
        examples = tf.shape(batch[1])[0]
        tensors = tf.cond(
            examples > 0, lambda: self._forward_backward(step, number, batch).tensors(), lambda: zeros.tensors()
        )
        return zeros.like(tensors)

    def _forward_backward(self, step: Any, number: Any, batch: Any) -> _Sums:
        model, objective = self.program.model, self.program.objective
        inputs, labels = self.program.normalized(batch[0]), batch[1]
        examples = _double(tf.shape(labels)[0])
        watched = [keras_compat.tensor_of(one) for one in self._variables]
        with tf.GradientTape() as tape:
            passed = keras_compat.forward(model, inputs, self._seeds(step, number))
            labels = objective.fitted(labels, passed.outputs)
            loss = tf.reduce_sum(objective.losses(labels, passed.outputs))
            # What layers add (regularisers) counts once per example, so once after the division by the count.
            loss += examples * sum((_double(tf.reduce_sum(one)) for one in passed.losses), _double(0.0))
            # Half precision has no room for a sum: it differentiates the mean, which is multiplied again below.
            target = loss / examples * _double(self.scale.value) if self.scale.dynamic else loss
        gradients = tape.gradient(target, watched, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        if self.scale.dynamic:
            gradients = [tf.convert_to_tensor(one) * tf.cast(examples, one.dtype) for one in gradients]
        outputs = passed.outputs
        correct = tf.reduce_sum(objective.correct(labels, outputs)) if objective.counts_correct else _double(0.0)
        moved = [tf.cast(examples, one.dtype) * one for one in passed.moved]
        measures = tf.stack([loss, correct, examples, _double(0.0)])
        return _Sums([tf.convert_to_tensor(one) for one in gradients], moved, measures)

    def _seeds(self, step: Any, number: Any) -> list[Any]:
        """One seed for each random layer, made of (seed, step, global micro-batch, layer)."""
        return [random_seed(self.program.seed, step, number, layer) for layer in range(self._random)]

    def _apply(self, sums: _Sums) -> Any:
        count = sums.measures[COUNT]
        divisor = count * _double(self.scale.value) if self.scale.dynamic else count
        gradients = [one / tf.cast(divisor, one.dtype) for one in sums.gradients]
        if self.program.clip_norm is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, self.program.clip_norm)
        elif self.program.clip_value is not None:
            bound = self.program.clip_value
            gradients = [tf.clip_by_value(one, -bound, bound) for one in gradients]
        keras_compat.apply(self.program.optimizer, gradients, self._variables)
        return tf.constant(True)

    def _move(self, sums: _Sums) -> None:
        """Moving statistics go to the mean, over examples, of where each micro-batch would have moved them."""
        for variable, moved in zip(self._statistics, sums.moved, strict=True):
            target = keras_compat.tensor_of(variable)
            old = _primary(target)
            target.assign(old + moved / tf.cast(sums.measures[COUNT], moved.dtype))

    def _validation_step(self, batches: list[Any]) -> Any:
        return tf.add_n(self.strategy.each_rank(lambda here, batch: self._validated(batch), batches))

    def _validated(self, batch: Any) -> Any:
        """Sums over a rank's part of a validation batch."""
        objective = self.program.objective

        def measured() -> Any:
            outputs = self.program.predict(batch[0])
            labels = objective.fitted(batch[1], outputs)
            loss = tf.reduce_sum(objective.losses(labels, outputs))
            correct = tf.reduce_sum(objective.correct(labels, outputs)) if objective.counts_correct else _double(0.0)
            return tf.stack([loss, correct, _double(tf.shape(labels)[0]), _double(0.0)])

        return tf.cond(tf.shape(batch[1])[0] > 0, measured, lambda: tf.zeros([4], tf.float64))

    def _prediction(self, inputs: Any) -> Any:
        return self.strategy.each_rank(lambda here, one: self.program.predict(one), [inputs] * len(self.slices))[0]

    def _shape_of_sums(self) -> _Sums:
        return _Sums(
            [tf.zeros(one.shape, one.dtype) for one in self._variables],
            [tf.zeros(one.shape, one.dtype) for one in self._statistics],
            tf.zeros([4], tf.float64),
        )


def micro_batch(batch: Any, index: Any, count: int) -> Any:
    """Every ``count``-th example from ``index`` on; whole rows are copied, which a slice with a stride does not."""

    def rows(one: Any) -> Any:
        examples = tf.shape(one)[0]
        return tf.gather(one, tf.range(tf.minimum(index, examples), examples, count))

    return tf.nest.map_structure(rows, batch)


def random_seed(seed: int, step: Any, number: Any, layer: int) -> Any:
    """int32[2] for a random layer's draws in global micro-batch ``number`` of a step, on whatever rank it runs."""
    fold = tf.random.experimental.stateless_fold_in
    start = tf.constant([seed % 2**31, layer], tf.int32)
    return fold(fold(start, tf.cast(step, tf.int32)), tf.cast(number, tf.int32))


def _all_finite(tensors: Sequence[Any]) -> Any:
    return tf.reduce_all([tf.reduce_all(tf.math.is_finite(one)) for one in tensors])


def any_length(spec: Any) -> Any:
    """The spec of a batch of as many examples as there happen to be."""
    return tf.TensorSpec([None, *spec.shape[1:]], spec.dtype)


def _double(value: Any) -> Any:
    return tf.cast(value, tf.float64)


def _primary(variable: Any) -> Any:
    """The value on this process's first device, without asking other replicas."""
    values = getattr(variable, "values", None)
    return tf.convert_to_tensor(values[0] if values is not None else variable)
