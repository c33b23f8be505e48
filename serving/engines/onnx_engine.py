"""The ONNX Runtime engine: versions that ``saman models export onnx`` converted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime

from saman.runs.engines.batches import Arrays
from saman.runs.engines.frames import INVALID_ARGUMENT, UNIMPLEMENTED
from saman.runs.engines.interface import EngineError

SIGNATURE = "serving_default"
_DTYPES = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16"}


class OnnxEngine:
    """A session on the CPU; ``ahead`` changes nothing."""

    def __init__(self, path: Path, threads: int, *, ahead: int = 0) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # spinning takes the front's core
        self._session = onnxruntime.InferenceSession(
            str(path / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._inputs = {about.name: _DTYPES.get(about.type, about.type[7:-1]) for about in self._session.get_inputs()}
        self._outputs = [about.name for about in self._session.get_outputs()]

    def run(self, signature: str, inputs: Arrays) -> Arrays:
        """Compute a batch."""
        if signature != SIGNATURE:
            raise EngineError(UNIMPLEMENTED, f"ONNX Runtime computes the signature {SIGNATURE} only, not {signature}")
        if set(inputs) != set(self._inputs):
            raise EngineError(INVALID_ARGUMENT, f"expected the inputs {sorted(self._inputs)}")
        try:
            values = {name: inputs[name].astype(dtype, copy=False) for name, dtype in self._inputs.items()}
            answers = self._session.run(self._outputs, values)
        except (RuntimeError, ValueError, TypeError) as error:
            raise EngineError(INVALID_ARGUMENT, str(error).strip().splitlines()[0][:500]) from error
        return {name: np.asarray(answer) for name, answer in zip(self._outputs, answers, strict=True)}
