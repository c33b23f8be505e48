"""The OpenVINO engine: SavedModels on CPUs, in float32.

OpenVINO does not check the check sums of tensors, so only verified versions reach it. It reads the signature
``serving_default``.
"""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from saman.runs.engines.batches import Arrays, rows_of
from saman.runs.engines.frames import INVALID_ARGUMENT, UNIMPLEMENTED
from saman.runs.engines.interface import COMPILED, EngineError

# OpenVINO's telemetry would fork a process that reports to its makers; without the package it does nothing.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
# Each computation would bind the calling thread to a core of OpenVINO's or oneTBB's choice, and free it again: two
# system calls and a thread that changes cores, a third of a front's time under gRPC. ``ENABLE_CPU_PINNING`` stops
# OpenVINO; oneTBB binds through hwloc, which binds nothing where the machine is said to be another (hwloc's manual,
# "Environment Variables").
os.environ["HWLOC_THISSYSTEM"] = "0"
import openvino  # noqa: E402

from saman.serving.engines.front_trial import suits_front  # noqa: E402

SIGNATURE = "serving_default"
_PAUSE_SECONDS = 0.005


class OpenVinoEngine:
    """A model compiled for this machine's CPU."""

    def __init__(self, path: Path, threads: int, *, ahead: int = 0) -> None:
        core = openvino.Core()
        kept = path / COMPILED / "any.blob"
        if not kept.is_file() or ahead:
            self._compiled = core.compile_model(core.read_model(path), "CPU", _options(threads))
        if ahead and kept.parent.is_dir():
            kept.write_bytes(self._compiled.export_model().getvalue())
            _prepare_batches(core, path, threads, ahead)
        if kept.is_file():  # also in a rehearsal: what other processes will read is what answers
            self._compiled = _import(core, kept, threads)
        self._request = self._compiled.create_infer_request()
        self._inputs = [(_name(port), np.dtype(port.get_element_type().to_dtype())) for port in self._compiled.inputs]
        self._outputs = [_name(port) for port in self._compiled.outputs]

    def run(self, signature: str, inputs: Arrays) -> Arrays:
        """Compute a batch."""
        if signature != SIGNATURE:
            raise EngineError(UNIMPLEMENTED, f"OpenVINO computes the signature {SIGNATURE} only, not {signature}")
        missing = [name for name, _ in self._inputs if name not in inputs]
        if missing or len(inputs) != len(self._inputs):
            raise EngineError(INVALID_ARGUMENT, f"expected the inputs {[name for name, _ in self._inputs]}")
        values = [np.require(inputs[name], dtype, ("C", "A", "W")) for name, dtype in self._inputs]
        try:
            # Tensors over the arrays' memory: ``infer(values)`` costs 40 µs more for its own checks and copies.
            for at, value in enumerate(values):
                self._request.set_input_tensor(at, openvino.Tensor(value, shared_memory=True))
            self._request.infer()
        except RuntimeError as error:
            raise EngineError(INVALID_ARGUMENT, str(error).strip().splitlines()[-1]) from error
        # The tensors belong to the request, which computes the next batch into them.
        return {name: self._request.get_output_tensor(at).data.copy() for at, name in enumerate(self._outputs)}


class OpenVinoBatches:
    """A model compiled for batches of fixed sizes, for a front.

    A model with a variable batch size takes its graph apart whenever the size changes: that costs as much as two images
    of a small model. A batch is computed at the next larger size; the rows beyond its own are discarded.

    Args:
        compiled: The model by batch size, the smallest first.
    """

    def __init__(self, compiled: Mapping[int, Any]) -> None:
        self._models = list[_FixedModel]()
        for size, model in compiled.items():
            self._models += [_FixedModel(model.create_infer_request())] * (size - len(self._models))

    def example(self) -> Arrays:
        """A row of zeros."""
        return self._models[0].zeros()

    def unload(self) -> None:
        """Free the models one by one: each holds Python's lock for a millisecond."""
        while self._models:
            if self._models.pop() not in self._models:
                time.sleep(_PAUSE_SECONDS)

    def run(self, signature: str, inputs: Arrays) -> Arrays:
        """Compute a batch; the caller has compared it with the signature."""
        return self._models[rows_of(inputs) - 1].run(inputs)


class _FixedModel:
    """A model compiled for one batch size."""

    def __init__(self, request: Any) -> None:
        compiled, self._request = request.get_compiled_model(), request
        # The request keeps its input tensors, so their memory can be written without asking for them again.
        self._inputs = {_name(port): request.get_input_tensor(at).data for at, port in enumerate(compiled.inputs)}
        self._outputs = [_name(port) for port in compiled.outputs]

    def zeros(self) -> Arrays:
        """Inputs of zeros."""
        return {name: np.zeros_like(place) for name, place in self._inputs.items()}

    def run(self, inputs: Arrays) -> Arrays:
        """Compute; rows that the batch leaves free hold those of an earlier batch."""
        rows = rows_of(inputs)
        for name, place in self._inputs.items():
            place[:rows] = inputs[name]
        self._request.infer(share_outputs=True)
        return {name: self._request.get_output_tensor(at).data[:rows].copy() for at, name in enumerate(self._outputs)}


def batch_sizes(rows: int) -> list[int]:
    """The powers of two below ``rows``, and ``rows``."""
    return [1 << power for power in range((rows - 1).bit_length())] + [rows]


def load_batches(path: Path, threads: int, rows: int) -> OpenVinoBatches:
    """Load a model for a front: what a rehearsal has tried and kept, else compile it.

    Raises:
        ValueError: The model does not suit a front.
    """
    core, kept = openvino.Core(), _kept_batches(path, rows)
    if not (path / COMPILED).is_dir():
        return OpenVinoBatches(_compile_batches(core, path, threads, rows))
    if not all(file.is_file() for file in kept.values()):
        raise ValueError("the model did not suit a front when it was rehearsed")
    return OpenVinoBatches({size: _import(core, file, threads) for size, file in kept.items()})


def _import(core: Any, file: Path, threads: int) -> Any:
    # From a stream: from bytes, OpenVINO would hold Python's lock meanwhile.
    return core.import_model(io.BytesIO(file.read_bytes()), "CPU", _options(threads))


def _prepare_batches(core: Any, path: Path, threads: int, rows: int) -> None:
    """Compile and try a model for fronts, and keep it where it suits them."""
    try:
        compiled = _compile_batches(core, path, threads, rows)
    except (ValueError, RuntimeError):
        return
    batches = OpenVinoBatches(compiled)
    if suits_front(batches, batches.example(), rows):
        for size, file in _kept_batches(path, rows).items():
            file.write_bytes(compiled[size].export_model().getvalue())


def _kept_batches(path: Path, rows: int) -> dict[int, Path]:
    return {size: path / COMPILED / f"{size}.blob" for size in batch_sizes(rows)}


def _compile_batches(core: Any, path: Path, threads: int, rows: int) -> dict[int, Any]:
    model, found = core.read_model(path), {}
    for size in batch_sizes(rows):
        fixed = model.clone()
        fixed.reshape({port: _with_rows(port.partial_shape, size) for port in fixed.inputs})
        if fixed.is_dynamic():
            raise ValueError("the size of a batch does not settle the shapes of the model")
        found[size] = core.compile_model(fixed, "CPU", _options(threads))
    return found


def _with_rows(shape: Any, rows: int) -> Any:
    shape[0] = rows
    return shape


def _options(threads: int) -> dict[str, Any]:
    return {
        "INFERENCE_PRECISION_HINT": "f32",  # the default rounds to bfloat16 where the CPU can
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    }


def _name(port: Any) -> str:
    """The signature's name of an input or output: OpenVINO keeps it beside the graph's names."""
    names = sorted(port.get_names(), key=lambda name: (":" in name or "/" in name, len(name)))
    return str(names[0])
