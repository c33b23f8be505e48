"""Cuts micro-batches out of a batch and derives their random seeds, alike for every strategy."""

from __future__ import annotations

from typing import Any

from saman.trainers.keras_compat import tf


def take_micro_batch(batch: Any, index: Any, count: int) -> Any:
    """Return every ``count``-th example of a batch, starting at ``index``.

    Gathering copies whole rows, which a strided slice does not.

    Args:
        batch: A nest of tensors, examples along the first axis.
        index: The number of the micro-batch, counted from 0.
        count: Number of micro-batches.
    """

    def gather_rows(tensor: Any) -> Any:
        examples = tf.shape(tensor)[0]
        return tf.gather(tensor, tf.range(tf.minimum(index, examples), examples, count))

    return tf.nest.map_structure(gather_rows, batch)


def derive_seed(seed: int, step: Any, number: Any, layer: int) -> Any:
    """Return a micro-batch's int32[2] seed for a random layer; it does not depend on the rank.

    Args:
        seed: The seed of the run.
        step: The optimiser step, counted from 0.
        number: The micro-batch's number in the global batch.
        layer: The random layer's number in the whole model.
    """
    fold = tf.random.experimental.stateless_fold_in
    start = tf.constant([seed % 2**31, layer], tf.int32)
    return fold(fold(start, tf.cast(step, tf.int32)), tf.cast(number, tf.int32))


def with_any_length(spec: Any) -> Any:
    """Return the spec of a micro-batch in the loop with its number of examples left open."""
    return tf.TensorSpec([None, *spec.shape[1:]], spec.dtype)
