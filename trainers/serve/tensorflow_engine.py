"""The TensorFlow engine: every signature of a SavedModel, those of TensorFlow 1 too."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from saman.runs.engines.batches import Arrays
from saman.runs.engines.frames import INVALID_ARGUMENT, UNIMPLEMENTED
from saman.runs.engines.interface import EngineError
from saman.trainers.keras_compat import tf


class TensorFlowEngine:
    """A loaded SavedModel; 0 ``threads`` leaves their number to TensorFlow, and ``ahead`` changes nothing."""

    def __init__(self, path: Path, threads: int, *, ahead: int = 0) -> None:
        if threads:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(threads)
        self._model = tf.saved_model.load(str(path))  # a signature alone does not keep its variables alive
        self._signatures = dict(self._model.signatures)
        self._specs = {name: call.structured_input_signature[1] for name, call in self._signatures.items()}

    def run(self, signature: str, inputs: Arrays) -> Arrays:
        """Compute a batch."""
        call = self._signatures.get(signature)
        if call is None:
            raise EngineError(UNIMPLEMENTED, f"TensorFlow did not load the signature {signature}")
        specs = self._specs[signature]
        if set(inputs) != set(specs):
            raise EngineError(INVALID_ARGUMENT, f"expected the inputs {sorted(specs)}")
        for name, spec in specs.items():  # TensorFlow looks at the rank and sizes only where an operation minds
            if not spec.shape.is_compatible_with(inputs[name].shape):
                shape = list(inputs[name].shape)
                raise EngineError(INVALID_ARGUMENT, f"input {name} has the shape {shape}, expected {spec.shape}")
        try:
            values = {name: tf.constant(_plain(inputs[name]), dtype=spec.dtype) for name, spec in specs.items()}
            answers = call(**values)
        except (tf.errors.OpError, TypeError, ValueError) as error:
            said = getattr(error, "message", None) or str(error)
            raise EngineError(INVALID_ARGUMENT, said.strip().splitlines()[0][:500]) from error
        return {name: answer.numpy() if answer.ndim else _scalar(answer) for name, answer in answers.items()}


def _plain(array: np.ndarray) -> np.ndarray:
    """An array that TensorFlow takes: of strings, as nested lists."""
    return array.tolist() if array.dtype == object else array


def _scalar(answer: object) -> np.ndarray:
    value = answer.numpy()  # type: ignore[attr-defined]
    return np.array(value, dtype=object) if isinstance(value, bytes) else np.asarray(value)
