"""Forward and backward passes of a rank: Σ over its micro-batches, each from the same weights and moving statistics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from saman.trainers import keras_compat
from saman.trainers.keras_compat import tf
from saman.trainers.program.loss_scale import LossScale
from saman.trainers.program.micro_batches import derive_seed, take_micro_batch
from saman.trainers.program.program import Program
from saman.trainers.program.sums import Sums


class RankPasses:
    """Builds, inside a graph, the sums of a rank's slice of a global batch.

    Attributes:
        variables: The trainable variables, in the order of the gradients.
        statistics: The moving statistics, in the order of their moves.
        sparse: Places, in ``variables``, of those whose gradient touches few rows; known once a graph is traced.
    """

    def __init__(self, program: Program, scale: LossScale, micro_batches: int, jit_compile: bool) -> None:
        """Name the variables; nothing is traced yet.

        Args:
            program: The model, its objective and its optimiser.
            scale: The loss scale of the run.
            micro_batches: Of each rank.
            jit_compile: Whether XLA compiles the passes.
        """
        self.program, self.scale, self.micro_batches = program, scale, micro_batches
        self.variables = list(program.model.trainable_variables)
        self.statistics = keras_compat.moving_statistics(program.model)
        self.sparse = set[int]()
        self._jit_compile = jit_compile
        self._random_layers = len(keras_compat.random_sources(program.model))

    def zeros(self) -> Sums:
        """Return the sums over no example."""
        return Sums.zeros(self.variables, self.statistics, self.program.objective.width)

    def sums(self, step: Any, first: Any, slices: Any, batch: Any) -> Sums:
        """Return the sums over the rank's micro-batches.

        Args:
            step: The optimiser step, counted from 0.
            first: The number of the rank's slice of the global batch.
            slices: The number of slices of a global batch.
            batch: The slice: inputs, labels, and weights if there are any.
        """
        if self.micro_batches == 1:
            return self._micro_batch_sums(step, first, batch)

        def add(index: Any, *so_far: Any) -> list[Any]:
            piece = take_micro_batch(batch, index, self.micro_batches)
            number = first + slices * tf.cast(index, tf.int64)
            total = self.zeros().with_tensors(so_far) + self._micro_batch_sums(step, number, piece)
            return [index + 1, *total.tensors()]

        zeros = self.zeros()
        _, *tensors = tf.while_loop(
            lambda index, *_: index < self.micro_batches, add, [tf.constant(0), *zeros.tensors()], parallel_iterations=1
        )
        return zeros.with_tensors(tensors)

    def _micro_batch_sums(self, step: Any, number: Any, batch: Any) -> Sums:
        """Return the sums over a micro-batch; zeros for an empty micro-batch, without calling the model."""
        zeros = self.zeros()

        def passes(*values: Any) -> list[Any]:
            return self._forward_backward(*values).tensors()

        # Always or never: random layers draw other numbers under XLA.
        passes = compiled(passes) if self._jit_compile else passes
        labels = tf.nest.flatten(batch[1])[0]
        if labels.shape[0]:  # known while tracing: the batch is full
            return zeros.with_tensors(passes(step, number, batch))
        examples = tf.shape(labels)[0]
        tensors = tf.cond(examples > 0, lambda: passes(step, number, batch), lambda: zeros.tensors())
        return zeros.with_tensors(tensors)

    def _forward_backward(self, step: Any, number: Any, batch: Any) -> Sums:
        inputs, labels = self.program.normalized(batch[0]), batch[1]
        examples = _double(tf.shape(tf.nest.flatten(labels)[0])[0])
        watched = [keras_compat.tensor_of(variable) for variable in self.variables]
        with tf.GradientTape() as tape:
            passed = keras_compat.forward(self.program.model, inputs, self._seeds(step, number))
            measures = self.program.objective.measure(labels, passed.outputs, *batch[2:])
            # Losses that layers add (regularisers) count once per example, so once after the division by the count.
            loss = measures.loss + examples * passed.added_loss()
            # Half precision has no room for a sum: the mean is differentiated, and multiplied again below.
            target = loss / examples * _double(self.scale.value) if self.scale.dynamic else loss
        gradients = tape.gradient(target, watched, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        self.sparse |= {place for place, found in enumerate(gradients) if isinstance(found, tf.IndexedSlices)}
        # TensorFlow loses the shape of some, as of a dense layer on inputs of three axes; exchanges divide by size.
        gradients = [tf.ensure_shape(gradient, value.shape) for gradient, value in zip(gradients, watched, strict=True)]
        if self.scale.dynamic:
            gradients = [gradient * tf.cast(examples, gradient.dtype) for gradient in gradients]
        moved = [tf.cast(examples, move.dtype) * move for move in passed.moved]
        return Sums(gradients, moved, replace(measures, loss=loss).vector())

    def _seeds(self, step: Any, number: Any) -> list[Any]:
        return [derive_seed(self.program.seed, step, number, layer) for layer in range(self._random_layers)]


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``function`` compiled by XLA, to call in a graph."""
    function_of_xla: Callable[..., Any] = tf.function(function, jit_compile=True, autograph=False)
    return function_of_xla


def _double(value: Any) -> Any:
    return tf.cast(value, tf.float64)
