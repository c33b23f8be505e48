"""Sums over examples: what micro-batches, ranks and stages add up before the division by the global count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from saman.trainers.keras_compat import tf

LOSS, CORRECT, COUNT, STOP, METRICS = range(5)  # indices into a vector of measures; metrics are the rest


@dataclass(frozen=True)
class Sums:
    """Sums over the examples of a step: of a rank or stage before the exchange, of all of them after it.

    Attributes:
        gradients: Σ of the gradients of the examples' losses, in the order of the trainable variables.
        moved: for each moving statistic, Σ over micro-batches of count · (new − old).
        measures: float64[width]: Σ loss, Σ correct predictions, number of examples, number of stop requests. The losses
            that layers add are included; each pipeline stage adds those of its own layers. Behind them stand the
            sums of the metrics, so that the vector is as wide as ``Objective.width``.
    """

    gradients: list[Any]
    moved: list[Any]
    measures: Any

    @classmethod
    def zeros(cls, variables: Sequence[Any], statistics: Sequence[Any], width: int) -> Sums:
        """Return the sums over no example, for these variables and moving statistics."""
        gradients, moved = (
            [tf.zeros(variable.shape, variable.dtype) for variable in group] for group in (variables, statistics)
        )
        return cls(gradients, moved, tf.zeros([width], tf.float64))

    def tensors(self) -> list[Any]:
        """Return all tensors in one flat list: gradients, moved statistics, measures."""
        return [*self.gradients, *self.moved, self.measures]

    def with_tensors(self, tensors: Sequence[Any]) -> Sums:
        """Return sums of this structure from a list in the order of ``tensors()``."""
        cut = len(self.gradients)
        return Sums(list(tensors[:cut]), list(tensors[cut:-1]), tensors[-1])

    def __add__(self, other: Sums) -> Sums:
        return self.with_tensors([a + b for a, b in zip(self.tensors(), other.tensors(), strict=True)])
