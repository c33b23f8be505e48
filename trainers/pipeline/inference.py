"""A stage in inference mode: batches pass through all stages, at most two ahead of the next one."""

from __future__ import annotations

from typing import Any

import numpy as np

from saman.trainers import keras_compat
from saman.trainers.keras_compat import tf
from saman.trainers.pipeline.messages import BACK, GO_ON, Messages
from saman.trainers.pipeline.runner import Runner


class Inference:
    """Outputs and sums of a ``runner``'s stage; all stages call each method alike."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._messages = Messages(runner.messages.transport)  # the seconds of a training window hold no validation
        self._outputs = tf.function(self._traced_inference, autograph=False, reduce_retracing=True)
        self._judge = tf.function(self._traced_judgement, autograph=False, reduce_retracing=True)
        self._waits: list[int] = []

    def infer(self, inputs: Any, tag: int = 0) -> Any:
        """Outputs of the whole model on the last stage, ``None`` on the others.

        A stage runs at most two batches ahead of the next one.
        """
        with self._runner.on_device():
            arriving = inputs if self._runner.first else self._tensors(self._runner.index - 1, tag)
            leaving = self._outputs(arriving)
            if self._runner.last:
                return leaving
            if len(self._waits) == 2:
                self._waits.pop(0)
                self._messages.receive(self._runner.index + 1, GO_ON)
            self._messages.send(self._runner.index + 1, tag, [one.numpy() for one in leaving])
            self._waits.append(tag)
        return None

    def inferred(self) -> None:
        """Tell the stage before that its batch is through."""
        if not self._runner.first:
            self._messages.send(self._runner.index - 1, GO_ON, [])

    def returned(self, outputs: Any) -> Any:
        """The last stage's ``outputs``, handed back from stage to stage to the first; ``None`` on the others."""
        if not self._runner.last:
            outputs = self._tensors(self._runner.index + 1, BACK)[0]
        if self._runner.first:
            return outputs
        self._messages.send(self._runner.index - 1, BACK, [outputs.numpy()])
        return None

    def judged(self, batch: Any) -> np.ndarray:
        """float64[4] of sums over a validation batch; zeros but on the last stage."""
        if not batch[1].shape[0]:
            return np.zeros(4)
        outputs = self.infer(batch[0])
        self.inferred()
        if not self._runner.last:
            return np.zeros(4)
        with self._runner.on_device():
            return np.asarray(self._judge(batch[1], outputs))

    def _traced_inference(self, arriving: Any) -> Any:
        return keras_compat.predict(self._runner.stage, self._runner.entering(arriving))

    def _traced_judgement(self, labels: Any, outputs: Any) -> Any:
        objective = self._runner.program.objective
        labels = objective.fitted(labels, outputs)
        loss = tf.reduce_sum(objective.losses(labels, outputs))
        nothing = tf.zeros([], tf.float64)
        correct = tf.reduce_sum(objective.correct(labels, outputs)) if objective.counts_correct else nothing
        return tf.stack([loss, correct, tf.cast(tf.shape(labels)[0], tf.float64), nothing])

    def _tensors(self, stage: int, tag: int) -> list[Any]:
        return [tf.convert_to_tensor(array) for array in self._messages.receive(stage, tag)]
