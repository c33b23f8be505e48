"""Loss and accuracy of each example, so that sums over any division of a batch are the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from saman.configs.errors import UserError
from saman.configs.schemas.training import CLASSIFICATION
from saman.trainers.keras_compat import keras, tf


@dataclass(frozen=True)
class Objective:
    """A loss by its Keras name. What has more axes than the batch (a sequence, an image) is averaged over them."""

    loss: str
    from_logits: bool = False

    @property
    def counts_correct(self) -> bool:
        """Whether an accuracy exists."""
        return self.loss in CLASSIFICATION

    def losses(self, labels: Any, outputs: Any) -> Any:
        """float64[batch]: the loss of each example; ``labels`` as ``fitted`` gives them."""
        function = keras.losses.get(self.loss)
        options = {"from_logits": self.from_logits} if self.counts_correct else {}
        return _per_example(function(labels, _wide(outputs), **options))

    def correct(self, labels: Any, outputs: Any) -> Any:
        """float64[batch]: 1 where the prediction of an example is right (a share of it where it has several)."""
        if self.loss == "binary_crossentropy":
            said = tf.cast(outputs, tf.float64) > (0.0 if self.from_logits else 0.5)
            right = tf.equal(said, tf.cast(labels, tf.float64) > 0.5)
        else:
            truth = labels if self.loss.startswith("sparse") else tf.argmax(labels, -1)
            right = tf.equal(tf.argmax(outputs, -1), tf.cast(truth, tf.int64))
        return _per_example(tf.cast(right, tf.float64))

    def fitted(self, labels: Any, outputs: Any) -> Any:
        """``labels`` with the axes that the loss expects beside ``outputs``: (N,) and (N, 1) mean the same."""
        wanted = outputs.shape.rank - (1 if self.loss.startswith("sparse") else 0)
        if labels.shape.rank == wanted + 1 and labels.shape[-1] == 1:
            return tf.squeeze(labels, -1)
        if labels.shape.rank == wanted - 1 and outputs.shape[-1] == 1 and not self.loss.startswith("sparse"):
            return labels[..., tf.newaxis]
        if labels.shape.rank != wanted:
            raise UserError(
                f"labels of shape {labels.shape} do not suit outputs of shape {outputs.shape}",
                where="train.loss",
                remedy=f"{self.loss} takes labels with {wanted} axes here",
            )
        return labels


def _wide(outputs: Any) -> Any:
    """Half precision is too coarse for a logarithm; wider outputs stay as they are, so that Keras finds the logits."""
    return tf.cast(outputs, tf.float32) if outputs.dtype in (tf.float16, tf.bfloat16) else outputs


def _per_example(values: Any) -> Any:
    if values.shape.rank > 1:
        values = tf.reduce_mean(values, axis=list(range(1, values.shape.rank)))
    return tf.cast(values, tf.float64)
