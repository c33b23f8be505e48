"""Examples in memory as NumPy arrays: split by seed, read by position."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

from saman.configs.errors import UserError
from saman.trainers.data.division import Share
from saman.trainers.data.interface import RandomAccess, Splits
from saman.trainers.keras_compat import tf


def splits(
    inputs: np.ndarray,
    labels: np.ndarray,
    share: Share,
    seed: int,
    normalize: Callable[[Any], Any] | None,
    examples: int | None = None,
    **identity: Any,
) -> Splits:
    """Split the arrays of a source into training, validation and test parts.

    Args:
        inputs: All inputs; the first axis counts the examples.
        labels: All labels.
        share: The parts of validation and test examples, drawn at random with ``seed``.
        seed: The seed of the run.
        normalize: Turns raw inputs into the model's inputs.
        examples: The number of examples to offer; training repeats examples if there are fewer.
        **identity: Describes the data in the export.
    """
    order = np.random.default_rng([seed, 1]).permutation(len(inputs))
    repeated = max(0, (examples or 0) - len(inputs))
    test, validation = (np.sort(order[part.start : part.stop]) for part in share.ranges(len(inputs)))
    train = np.sort(np.setdiff1d(order, np.concatenate([test, validation])))
    if not len(train):
        raise UserError("no example is left for training", where="data.validation_fraction", remedy="hold out less")

    def part(chosen: np.ndarray, more: int = 0) -> RandomAccess | None:
        return RandomAccess(len(chosen) + more, _reader(inputs[chosen], labels[chosen])) if len(chosen) else None

    digest = hashlib.sha256(inputs.tobytes())
    digest.update(labels.tobytes())
    return Splits(
        train=part(train, repeated),
        validation=part(validation),
        test=part(test),
        normalize=normalize,
        identity={**identity, "examples": len(inputs) + repeated, "sha256": digest.hexdigest()},
    )


def _reader(inputs: np.ndarray, labels: np.ndarray) -> Callable[[Any], Any]:
    with tf.device("CPU:0"):
        held, answers = tf.constant(inputs), tf.constant(labels)

    def read(positions: Any) -> Any:
        positions %= len(labels)
        return tf.gather(held, positions), tf.gather(answers, positions)

    return read


def scaled(largest: float) -> Callable[[Any], Any]:
    """Return the normalisation of a source's arrays from 0…``largest`` to 0…1, in the precision of the weights."""
    from saman.trainers.keras_compat import keras

    return lambda values: tf.cast(values, keras.backend.floatx()) / largest
