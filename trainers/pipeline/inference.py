"""A stage in inference mode: batches pass from stage to stage, each at most two batches ahead of the next stage."""

from __future__ import annotations

from typing import Any

import numpy as np

from saman.trainers import keras_compat
from saman.trainers.keras_compat import tf
from saman.trainers.pipeline.messages import CREDIT, RETURN, Messages
from saman.trainers.pipeline.runner import StageRunner


class StageInference:
    """Predicts and validates with the stage of a ``StageRunner``; all stages call each method alike."""

    def __init__(self, runner: StageRunner) -> None:
        self._runner = runner
        self._messages = Messages(runner.messages.transport)  # its time is not part of a training window
        self._outputs = tf.function(self._trace_inference, autograph=False, reduce_retracing=True)
        self._validate = tf.function(self._trace_validation, autograph=False, reduce_retracing=True)
        self._waits: list[int] = []

    def infer(self, inputs: Any, tag: int = 0) -> Any:
        """Return the outputs of the whole model on the last stage, ``None`` on the others.

        The first stage takes raw ``inputs``; ``tag`` distinguishes batches that are on their way together.
        """
        with self._runner.on_device():
            arriving = inputs if self._runner.first else self._tensors(self._runner.index - 1, tag)
            leaving = self._outputs(arriving)
            if self._runner.last:
                return leaving
            if len(self._waits) == 2:
                self._waits.pop(0)
                self._messages.receive(self._runner.index + 1, CREDIT)
            self._messages.send(self._runner.index + 1, tag, [tensor.numpy() for tensor in leaving])
            self._waits.append(tag)
        return None

    def grant_credit(self) -> None:
        """Let the previous stage send another batch."""
        if not self._runner.first:
            self._messages.send(self._runner.index - 1, CREDIT, [])

    def return_to_first(self, outputs: Any) -> Any:
        """Pass the last stage's ``outputs`` back from stage to stage; return them on the first stage, else ``None``."""
        if not self._runner.last:
            outputs = self._tensors(self._runner.index + 1, RETURN)[0]
        if self._runner.first:
            return outputs
        self._messages.send(self._runner.index - 1, RETURN, [outputs.numpy()])
        return None

    def validate(self, batch: Any) -> np.ndarray:
        """Return float64[width] measures of a validation batch on the last stage, zeros on the others."""
        if not batch[1].shape[0]:
            return np.zeros(self._runner.program.objective.width)
        outputs = self.infer(batch[0])
        self.grant_credit()
        if not self._runner.last:
            return np.zeros(self._runner.program.objective.width)
        with self._runner.on_device():
            return np.asarray(self._validate(batch[1], outputs))

    def _trace_inference(self, arriving: Any) -> Any:
        return keras_compat.predict(self._runner.stage, self._runner.model_inputs(arriving))

    def _trace_validation(self, labels: Any, outputs: Any) -> Any:
        return self._runner.program.objective.measure(labels, outputs).vector()

    def _tensors(self, stage: int, tag: int) -> list[Any]:
        return [tf.convert_to_tensor(array) for array in self._messages.receive(stage, tag)]
