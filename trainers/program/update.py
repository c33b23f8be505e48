"""The update of a step from the sums over all examples: ÷ global count ──► clip ──► optimiser, moving statistics."""

from __future__ import annotations

from typing import Any

from saman.trainers import keras_compat
from saman.trainers.keras_compat import tf
from saman.trainers.program.loss_scale import LossScale
from saman.trainers.program.passes import compiled
from saman.trainers.program.program import Program
from saman.trainers.program.sums import COUNT, Sums


class Update:
    """Builds, inside a graph, what a step changes."""

    def __init__(
        self, program: Program, scale: LossScale, variables: list[Any], statistics: list[Any], jit_compile: bool
    ) -> None:
        """Name what is updated; nothing is traced yet.

        Args:
            program: The optimiser, and how its gradients are clipped.
            scale: The loss scale of the run.
            variables: The trainable variables, in the order of the gradients.
            statistics: The moving statistics, in the order of their moves.
            jit_compile: Whether XLA compiles the update of the variables.
        """
        self.program, self.scale = program, scale
        self._variables, self._statistics, self._jit_compile = variables, statistics, jit_compile

    def apply(self, sums: Sums) -> Any:
        """Let the optimiser update a replica's variables; return ``True`` as a tensor."""
        if not self._jit_compile:
            return self._apply(sums)
        return compiled(lambda *tensors: self._apply(sums.with_tensors(tensors)))(*sums.tensors())

    def _apply(self, sums: Sums) -> Any:
        count = sums.measures[COUNT]
        divisor = count * tf.cast(self.scale.value, tf.float64) if self.scale.dynamic else count
        gradients = [gradient / tf.cast(divisor, gradient.dtype) for gradient in sums.gradients]
        if self.program.clip_norm is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, self.program.clip_norm)
        elif self.program.clip_value is not None:
            bound = self.program.clip_value
            gradients = [tf.clip_by_value(gradient, -bound, bound) for gradient in gradients]
        keras_compat.apply(self.program.optimizer, gradients, self._variables)
        return tf.constant(True)

    def before(self) -> list[Any]:
        """Return what ``after`` needs of the weights before the update: those whose layers have a rate of their own."""
        return [value_here(keras_compat.tensor_of(self._variables[place])) for place in self.program.rate_factors]

    def after(self, kept: list[Any]) -> None:
        """Finish an update: scale the steps of layers with a rate of their own, then move the average.

        An optimiser's step is proportional to its rate, so a factor of the rate is a factor of the step.

        Args:
            kept: What ``before`` returned.
        """
        for (place, factor), old in zip(self.program.rate_factors.items(), kept, strict=True):
            variable = keras_compat.tensor_of(self._variables[place])
            variable.assign(old + tf.cast(factor, old.dtype) * (value_here(variable) - old))
        for average, weight in zip(self.program.average, self._variables, strict=False):
            held = keras_compat.tensor_of(average)
            now, decay = value_here(held), self.program.decay
            new = tf.cast(value_here(keras_compat.tensor_of(weight)), now.dtype)
            held.assign(now + tf.cast(1.0 - decay, now.dtype) * (new - now))

    def swap_average(self) -> Any:
        """Exchange the weights and their average; a second call undoes it."""
        for average, weight in zip(self.program.average, self._variables, strict=False):
            held, used = keras_compat.tensor_of(average), keras_compat.tensor_of(weight)
            mean, last = value_here(held), value_here(used)
            used.assign(tf.cast(mean, last.dtype))
            held.assign(tf.cast(last, mean.dtype))
        return tf.constant(True)

    def move_statistics(self, sums: Sums) -> None:
        """Move each statistic by the mean, over examples, of the moves that the micro-batches made."""
        for variable, moved in zip(self._statistics, sums.moved, strict=True):
            target = keras_compat.tensor_of(variable)
            target.assign(value_here(target) + moved / tf.cast(sums.measures[COUNT], moved.dtype))


def value_here(variable: Any) -> Any:
    """Return an updated value on this process's first device, without asking other replicas."""
    values = getattr(variable, "values", None)
    return tf.convert_to_tensor(values[0] if values is not None else variable)
