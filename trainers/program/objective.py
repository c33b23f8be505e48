"""Loss and accuracy of each example: their sums do not depend on how a batch is divided."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from saman.configs.errors import UserError
from saman.configs.names import is_reference
from saman.configs.schemas.learning.keras_names import CLASSIFICATION
from saman.configs.schemas.training import Train
from saman.trainers.keras_compat import tf
from saman.trainers.program import losses, metrics
from saman.trainers.program.losses import LossFunction
from saman.trainers.program.metrics import MetricSums
from saman.trainers.program.sums import CORRECT, COUNT, LOSS, METRICS
from saman.trainers.user_code.context import Context


@dataclass(frozen=True)
class BatchMeasures:
    """float64 scalars of a batch: Σ loss, Σ correct predictions (0 without accuracy), number of examples.

    ``metrics`` are the sums of the metrics, float64[width − 4].
    """

    loss: Any
    correct: Any
    examples: Any
    metrics: Any

    def vector(self) -> Any:
        """Return the objective's float64[width] in the order of ``sums.py``, without a stop request."""
        first = tf.stack([self.loss, self.correct, self.examples, tf.zeros([], tf.float64)])
        return tf.concat([first, self.metrics], 0)


@dataclass(frozen=True)
class Objective:
    """A loss and its metrics; axes besides the batch (of a sequence, an image) are averaged.

    Attributes:
        loss: The Keras name of the loss, or a reference to a user's function.
        from_logits: Whether the model's outputs are logits instead of probabilities.
        function: The loss as a function of labels and outputs; by default Keras' without arguments.
        metrics: Further metrics.
        where: The part of the experiment, for messages.
    """

    loss: str
    from_logits: bool = False
    function: LossFunction | None = None
    metrics: MetricSums = field(default_factory=lambda: MetricSums(()))
    where: str = "train.loss"

    @classmethod
    def of(cls, train: Train, context: Context | None = None) -> Objective:
        """Return the objective of the ``train`` part of an experiment.

        Args:
            train: The ``train`` part.
            context: What users' functions may ask for.

        Raises:
            UserError: A loss or a metric does not take its arguments, or cannot be summed over ranks.
        """
        function = losses.build(train.loss, train.loss_args, train.from_logits, train.label_smoothing, context)
        return cls(train.loss, train.from_logits, function, metrics.build(train.metrics, train.loss, context))

    @property
    def width(self) -> int:
        """The numbers in a vector of measures."""
        return METRICS + self.metrics.width

    def results(self, sums: np.ndarray) -> dict[str, float]:
        """Return the metrics by name for float64[width] sums over examples; none for sums over no example."""
        count = float(sums[COUNT])
        if not count:
            return {}
        accuracy = {"accuracy": float(sums[CORRECT] / count)} if self.counts_correct else {}
        return {"loss": float(sums[LOSS] / count), **accuracy, **self.metrics.results(sums[METRICS:], count)}

    def prepare(self, labels: Any, outputs: Any) -> None:
        """Check the metrics before any graph is traced.

        Args:
            labels: The spec of a batch of labels.
            outputs: The spec of a batch of outputs.

        Raises:
            UserError: A metric cannot be computed from these, or does not add up.
        """
        if self.metrics.metrics:
            drawn = _drawn(outputs)
            self.metrics.prepare(self.fit_labels(_drawn_labels(labels, outputs), drawn), drawn)

    @property
    def counts_correct(self) -> bool:
        """Whether the loss has an accuracy."""
        return self.loss in CLASSIFICATION

    def measure(self, labels: Any, outputs: Any, weights: Any = None) -> BatchMeasures:
        """Return the sums over a batch; ``labels`` may have any shape that ``fit_labels`` accepts.

        As in Keras, weights multiply the losses of the examples, but neither their number nor their accuracy.
        """
        labels = self.fit_labels(labels, outputs)
        values = self.losses(labels, outputs)
        loss = tf.reduce_sum(values if weights is None else values * tf.cast(weights, tf.float64))
        correct = tf.reduce_sum(self.correct(labels, outputs)) if self.counts_correct else tf.zeros([], tf.float64)
        added = self.metrics.sums(labels, tf.stop_gradient(_without_half_precision(outputs)))
        return BatchMeasures(loss, correct, tf.cast(tf.shape(labels)[0], tf.float64), added)

    def losses(self, labels: Any, outputs: Any) -> Any:
        """Return float64[batch], the loss of each example, for labels from ``fit_labels``."""
        function = self.function or losses.build(self.loss, {}, self.from_logits, 0.0)
        values = tf.convert_to_tensor(function(labels, _without_half_precision(outputs)))
        if values.shape.rank == 0:
            remedy = "return a loss per example; saman divides the sum by the examples of all ranks"
            raise UserError(f"{self.loss} returned a single number for a batch", where=self.where, remedy=remedy)
        return _per_example(values)

    def correct(self, labels: Any, outputs: Any) -> Any:
        """Return float64[batch]: 1 for a correct prediction; the correct share for an example with several."""
        if self.loss.startswith("binary_"):
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
        if is_reference(self.loss):
            return labels
        wanted = outputs.shape.rank - (1 if self.loss.startswith("sparse") else 0)
        if self.loss.startswith("categorical_") and labels.dtype.is_integer and outputs.shape[-1] != 1:
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
                where=self.where,
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


def _drawn(spec: Any) -> Any:
    """Return outputs for a few examples, different from each other."""
    shape = [size or 1 for size in spec.shape[1:]]
    values = np.random.default_rng(0).uniform(0.05, 0.95, [_DRAWN, *shape])
    return tf.cast(tf.constant(values), tf.float32 if spec.dtype in (tf.float16, tf.bfloat16) else spec.dtype)


def _drawn_labels(spec: Any, outputs: Any) -> Any:
    """Return labels for a few examples: classes that exist, or numbers."""
    shape = [size or 1 for size in spec.shape[1:]]
    classes = max(2, outputs.shape[-1] or 2)
    if spec.dtype.is_integer or spec.dtype == tf.bool:
        largest = classes if len(shape) < outputs.shape.rank - 1 or shape[-1:] == [1] else 2
        return tf.cast(tf.constant(np.random.default_rng(1).integers(0, largest, [_DRAWN, *shape])), spec.dtype)
    rows = np.eye(classes)[np.arange(_DRAWN) % classes]
    if shape[-1:] == [classes]:
        rows = rows.reshape([_DRAWN, *[1] * (len(shape) - 1), classes])
        return tf.cast(tf.broadcast_to(rows, [_DRAWN, *shape]), spec.dtype)
    return tf.cast(tf.constant(np.random.default_rng(1).integers(0, 2, [_DRAWN, *shape])), spec.dtype)


_DRAWN = 6  # examples
