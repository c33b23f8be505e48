"""Loss and accuracy of each example: their sums do not depend on how a batch is divided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from saman.configs.errors import UserError
from saman.configs.schemas.training import CLASSIFICATION
from saman.trainers.keras_compat import keras, tf


@dataclass(frozen=True)
class BatchMeasures:
    """float64 scalars of a batch: Σ loss, Σ correct predictions (0 without accuracy), number of examples."""

    loss: Any
    correct: Any
    examples: Any

    def vector(self) -> Any:
        """Return float64[4] in the order of ``trainers/program/sums.py``, without a stop request."""
        return tf.stack([self.loss, self.correct, self.examples, tf.zeros([], tf.float64)])


@dataclass(frozen=True)
class Objective:
    """A loss by its Keras name; axes besides the batch (of a sequence, an image) are averaged.

    Attributes:
        loss: The Keras name of the loss.
        from_logits: Whether the model's outputs are logits instead of probabilities.
    """

    loss: str
    from_logits: bool = False

    @property
    def counts_correct(self) -> bool:
        """Whether the loss has an accuracy."""
        return self.loss in CLASSIFICATION

    def measure(self, labels: Any, outputs: Any, weights: Any = None) -> BatchMeasures:
        """Return the sums over a batch; ``labels`` may have any shape that ``fit_labels`` accepts.

        As in Keras, weights multiply the losses of the examples, but neither their number nor their accuracy.
        """
        labels = self.fit_labels(labels, outputs)
        losses = self.losses(labels, outputs)
        loss = tf.reduce_sum(losses if weights is None else losses * tf.cast(weights, tf.float64))
        correct = tf.reduce_sum(self.correct(labels, outputs)) if self.counts_correct else tf.zeros([], tf.float64)
        return BatchMeasures(loss, correct, tf.cast(tf.shape(labels)[0], tf.float64))

    def losses(self, labels: Any, outputs: Any) -> Any:
        """Return float64[batch], the loss of each example, for labels from ``fit_labels``."""
        function = keras.losses.get(self.loss)
        options = {"from_logits": self.from_logits} if self.counts_correct else {}
        return _per_example(function(labels, _without_half_precision(outputs), **options))

    def correct(self, labels: Any, outputs: Any) -> Any:
        """Return float64[batch]: 1 for a correct prediction; the correct share for an example with several."""
        if self.loss == "binary_crossentropy":
            predicted = tf.cast(outputs, tf.float64) > (0.0 if self.from_logits else 0.5)
            right = tf.equal(predicted, tf.cast(labels, tf.float64) > 0.5)
        else:
            truth = labels if self.loss.startswith("sparse") else tf.argmax(labels, -1)
            right = tf.equal(tf.argmax(outputs, -1), tf.cast(truth, tf.int64))
        return _per_example(tf.cast(right, tf.float64))

    def fit_labels(self, labels: Any, outputs: Any) -> Any:
        """Return ``labels`` with the axes that the loss expects for ``outputs``: (N,) and (N, 1) mean the same.

        Where the loss wants one-hot rows, classes given as whole numbers become such rows.

        Raises:
            UserError: The labels have too many or too few axes.
        """
        wanted = outputs.shape.rank - (1 if self.loss.startswith("sparse") else 0)
        if self.loss == "categorical_crossentropy" and labels.dtype.is_integer and outputs.shape[-1] != 1:
            if labels.shape.rank == wanted and labels.shape[-1] == 1:
                labels = tf.squeeze(labels, -1)
            if labels.shape.rank == wanted - 1:
                return tf.one_hot(labels, outputs.shape[-1])
        if labels.shape.rank == wanted + 1 and labels.shape[-1] == 1:
            return tf.squeeze(labels, -1)
        if labels.shape.rank == wanted - 1 and outputs.shape[-1] == 1 and not self.loss.startswith("sparse"):
            return labels[..., tf.newaxis]
        if labels.shape.rank != wanted:
            raise UserError(
                f"labels of shape {labels.shape} do not match outputs of shape {outputs.shape}",
                where="train.loss",
                remedy=f"{self.loss} takes labels with {wanted} axes here",
            )
        return labels


def _without_half_precision(outputs: Any) -> Any:
    """Cast half precision, too coarse for a logarithm, to float32.

    Other outputs are returned unchanged, because Keras looks for the logits in the operation that made them.
    """
    return tf.cast(outputs, tf.float32) if outputs.dtype in (tf.float16, tf.bfloat16) else outputs


def _per_example(values: Any) -> Any:
    if values.shape.rank > 1:
        values = tf.reduce_mean(values, axis=list(range(1, values.shape.rank)))
    return tf.cast(values, tf.float64)
