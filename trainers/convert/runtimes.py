"""Runs converted models in their runtimes: LiteRT, onnxruntime, Node with @tensorflow/tfjs, Keras, TensorFlow."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from saman.runs import variables
from saman.runs.commands import run_command
from saman.runs.records.converter_report import AnswerReport
from saman.trainers.convert import sample_answers
from saman.trainers.convert.sample_answers import FIRST, Array, Named

# Where the npm package @tensorflow/tfjs is installed; its folder holds node_modules.
NODE_FOLDER = variables.TFJS_NODE


def answer(name: str, model: Path, output: Path, inputs: Path, latency_runs: int) -> AnswerReport:
    """Write the converted model's answers to the sample to a file.

    Args:
        name: The format.
        model: The converted model.
        output: The file to write (.npy), answers stacked along the first axis.
        inputs: The sample's file (.npz).
        latency_runs: Number of calls to time; 0 measures no latency.

    Returns:
        How the model answered, with its runtime.
    """
    values = sample_answers.inputs(inputs)
    if name == "tfjs":
        return _tfjs(model, output, values, latency_runs)
    call, runtime = RUNTIMES[name.partition("-")[0]](model, values)
    return replace(sample_answers.write_answers(call, values, output, latency_runs), runtime=runtime)


LoadedModel = tuple[Callable[[Named], Named], str]


def _saved_model(model: Path, _values: Named) -> LoadedModel:
    import tensorflow as tf

    from saman.trainers.convert.predict import caller

    return caller(model / "saved_model"), f"TensorFlow {tf.__version__}"


def _keras(model: Path, _values: Named) -> LoadedModel:
    """Run the Keras file of a model with a single output; it takes raw inputs only if it does not normalise them."""
    import keras

    loaded = keras.models.load_model(model / "model.keras", compile=False)
    named = len(loaded.inputs) > 1 and isinstance(loaded.input, dict)
    kinds = {name: _dtype_of(tensor) for name, tensor in loaded.input.items()} if named else {}

    def call(batch: Named) -> Named:
        if named:
            answer = loaded({name: batch[name].astype(kind) for name, kind in kinds.items()}, training=False)
        else:  # inputs, or inputs_0, inputs_1, …
            values = [batch[name].astype(_dtype_of(to)) for name, to in zip(sorted(batch), loaded.inputs, strict=True)]
            answer = loaded(values if len(values) > 1 else values[0], training=False)
        return {FIRST: np.asarray(answer)}

    return call, f"Keras {keras.__version__}"


def _dtype_of(tensor: Any) -> str:
    dtype = getattr(tensor, "dtype", None) or "float32"
    return str(getattr(dtype, "name", dtype))


def _tflite(model: Path, _values: Named) -> LoadedModel:
    from ai_edge_litert import interpreter as litert

    interpreter = litert.Interpreter(str(model / "model.tflite"), num_threads=1)
    runner = interpreter.get_signature_runner("serving_default")
    wanted = {name: about["dtype"] for name, about in runner.get_input_details().items()}

    def call(batch: Named) -> Named:
        answers = runner(**{name: batch[name].astype(kind) for name, kind in wanted.items()})
        return _first_named({name: np.array(array) for name, array in answers.items()})

    version = getattr(litert, "__version__", "") or _version("ai-edge-litert")
    return call, f"LiteRT {version}"


def _first_named(answers: dict[str, Array]) -> dict[str, Array]:
    """Call the only output ``FIRST``."""
    return {FIRST: next(iter(answers.values()))} if len(answers) == 1 else answers


def _onnx(model: Path, _values: Named) -> LoadedModel:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model / "model.onnx"), options, providers=["CPUExecutionProvider"])
    known = {"tensor(float)": "float32", "tensor(double)": "float64"}
    wanted = [(about.name, known.get(about.type, about.type[7:-1])) for about in session.get_inputs()]

    def call(batch: Named) -> Named:
        given = {name: batch[_input_of(name, batch)].astype(dtype) for name, dtype in wanted}
        first, *others = session.run(None, given)
        return {FIRST: first, **{f"{number:04d}": array for number, array in enumerate(others)}}

    return call, f"onnxruntime {onnxruntime.__version__}"


def _input_of(name: str, batch: Named) -> str:
    """Return the name in the sample of an input of an ONNX graph, which may end with ``:0``; an only one may differ."""
    plain = name.partition(":")[0]
    return plain if plain in batch or len(batch) > 1 else next(iter(batch))


def _tfjs(model: Path, output: Path, values: Named, latency_runs: int) -> AnswerReport:
    """Node reads each input of the sample as raw bytes and writes each output the same way."""
    script = Path(__file__).with_name("tfjs_run.cjs")
    with tempfile.TemporaryDirectory() as folder:
        answers = Path(folder, "answers.bin")
        request = {
            "model": str(model / "model.json"),
            "inputs": _raw_inputs(values, Path(folder)),
            "first": FIRST,
            "output": str(answers),
            "batch": sample_answers.BATCH,
            "latencyRuns": latency_runs,
            "packages": os.environ.get(NODE_FOLDER, "."),
        }
        done = run_command(["node", str(script), json.dumps(request)])
        if done.returncode:
            raise RuntimeError((done.stderr.strip().splitlines() or ["no reason given by Node"])[-1])
        report = json.loads(done.stdout.strip().splitlines()[-1])
        found = {
            about["name"]: np.fromfile(f"{answers}.{number}", "<f4").reshape(about["shape"])
            for number, about in enumerate(report["outputs"])
        }
    written = sample_answers.save_answers(_first_named(found), output)
    return replace(written, latency_milliseconds=report.get("latencyMilliseconds"), runtime=report["runtime"])


def _raw_inputs(values: Named, folder: Path) -> list[dict[str, Any]]:
    """Write each input as raw float64, which holds every float32 and int32; returns what Node reads."""
    given = []
    for number, (name, array) in enumerate(values.items()):
        file = folder / f"input-{number}.bin"
        file.write_bytes(np.ascontiguousarray(array.astype("<f8")).tobytes())
        given.append({"name": name, "file": str(file), "shape": list(array.shape)})
    return given


def _version(distribution: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


RUNTIMES: dict[str, Callable[[Path, Named], LoadedModel]] = {
    "saved_model": _saved_model,
    "keras": _keras,
    "tflite": _tflite,
    "onnx": _onnx,
}
