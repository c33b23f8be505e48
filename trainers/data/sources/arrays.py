"""Examples in memory as NumPy arrays: split by seed, read by position."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

from saman.trainers.data.interface import RandomAccess, Splits
from saman.trainers.keras_compat import tf


def splits(
    inputs: np.ndarray,
    labels: np.ndarray,
    validation_fraction: float,
    seed: int,
    normalize: Callable[[Any], Any] | None,
    examples: int | None = None,
    **identity: Any,
) -> Splits:
    """Split a source's arrays into training and validation parts.

    Args:
        inputs: All inputs; the first axis counts the examples.
        labels: All labels.
        validation_fraction: The share of validation examples, drawn at random with ``seed``.
        seed: The seed of the run.
        normalize: Turns raw inputs into the model's inputs.
        examples: The number of examples to offer; training repeats examples if there are fewer.
        **identity: Describes the data in the export.
    """
    order = np.random.default_rng([seed, 1]).permutation(len(inputs))
    held_out = round(len(inputs) * validation_fraction)
    repeated = max(0, (examples or 0) - len(inputs))
    validation, train = np.sort(order[:held_out]), np.sort(order[held_out:])
    digest = hashlib.sha256(inputs.tobytes())
    digest.update(labels.tobytes())
    return Splits(
        train=RandomAccess(len(train) + repeated, _reader(inputs[train], labels[train])),
        validation=RandomAccess(held_out, _reader(inputs[validation], labels[validation])) if held_out else None,
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
    """Return a source's normalisation of 0…``largest`` to 0…1, in the precision of the weights."""
    from saman.trainers.keras_compat import keras

    return lambda values: tf.cast(values, keras.backend.floatx()) / largest
