"""Weights of training examples: their own, and those of their classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from saman.configs.errors import UserError
from saman.trainers.data.interface import RandomAccess
from saman.trainers.data.order import permute
from saman.trainers.keras_compat import tf
from saman.trainers.user_code.graphs import in_graph

ClassWeights = Literal["balanced"] | Mapping[int, float] | None
MOST_COUNTED = 200_000  # examples whose labels are read for ``balanced``
_AT_ONCE = 4096
_COUNT = (1 << 20) + 1  # an epoch that no training reaches
_WHERE = "data.class_weights"


def weigher(classes: np.ndarray | None) -> Callable[..., Any]:
    """Return what gives a batch its weights: the examples' own, or 1, times the weights of their classes.

    Args:
        classes: float32[k], the weight of each class; classes beyond have the weight 1.
    """

    def weigh(inputs: Any, labels: Any, own: Any = None) -> tuple[Any, Any, Any]:
        first = tf.nest.flatten(labels)[0]
        weights = tf.ones(tf.shape(first)[:1]) if own is None else tf.cast(own, tf.float32)
        weights = tf.ensure_shape(weights, first.shape[:1])
        if classes is not None:
            numbers = _class_numbers(labels)
            known = numbers < len(classes)
            of_class = tf.gather(tf.constant(classes), tf.where(known, numbers, 0))
            weights *= tf.where(known, of_class, 1.0)
        return inputs, labels, weights

    return weigh


def class_table(asked: ClassWeights, train: Any, seed: int) -> np.ndarray | None:
    """Return float32[k], the weight of each class; ``None`` if none are asked for.

    Args:
        asked: The weights by class, or ``balanced``: examples ÷ (classes × examples of the class).
        train: The training examples; of many, a drawn part is counted.
        seed: The seed of the run.

    Raises:
        UserError: The labels cannot be counted.
    """
    if asked is None:
        return None
    if asked != "balanced":
        table = np.ones(max(asked, default=0) + 1, np.float32)
        table[list(asked)] = list(asked.values())
        return table
    if not isinstance(train, RandomAccess):
        problem = "balanced needs data with random access"
        raise UserError(problem, where=_WHERE, remedy="give the weight of each class, such as {0: 1, 1: 5}")
    counts = np.bincount(_labels(train, seed))
    present = counts > 0
    table = np.ones(len(counts), np.float32)
    table[present] = counts.sum() / (present.sum() * counts[present])
    return table


def _labels(train: RandomAccess, seed: int) -> np.ndarray:
    found = []

    def classes(positions: Any) -> Any:
        return _class_numbers(_pair(in_graph(train.read)(positions))[1])

    read = tf.function(classes, reduce_retracing=True, autograph=False)
    for first in range(0, min(train.examples, MOST_COUNTED), _AT_ONCE):
        positions = tf.range(first, min(train.examples, MOST_COUNTED, first + _AT_ONCE), dtype=tf.int64)
        if train.examples > MOST_COUNTED:
            positions = permute(positions, train.examples, seed, _COUNT)
        found.append(np.asarray(read(positions)))
    return np.concatenate(found)


def _pair(example: Any) -> Any:
    if not (isinstance(example, tuple) and len(example) > 1):
        remedy = "give the weight of each class, such as {0: 1, 1: 5}"
        raise UserError("balanced needs examples that hold their label before the map", where=_WHERE, remedy=remedy)
    return example


def _class_numbers(labels: Any) -> Any:
    """Return the class of each label: a whole number, or a one-hot row."""
    if labels.shape.rank == 2 and labels.shape[-1] == 1:
        labels = tf.squeeze(labels, -1)
    if labels.shape.rank == 2:
        return tf.argmax(labels, -1)
    if labels.shape.rank != 1 or not labels.dtype.is_integer:
        problem = f"labels of shape {labels.shape[1:]} and type {labels.dtype.name} name no class"
        raise UserError(problem, where=_WHERE, remedy="remove class_weights, or use whole numbers as labels")
    return tf.cast(labels, tf.int64)
