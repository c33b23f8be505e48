"""Runs converted models in their runtimes: LiteRT, onnxruntime, Node with @tensorflow/tfjs, Keras, TensorFlow."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from saman.runs import variables
from saman.runs.commands import run_command
from saman.runs.records.converter_report import AnswerReport
from saman.trainers.convert import sample_answers

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


LoadedModel = tuple[Callable[[sample_answers.Array], sample_answers.Array], str]


def _saved_model(model: Path, _values: sample_answers.Array) -> LoadedModel:
    import tensorflow as tf

    from saman.trainers.convert.predict import caller

    return caller(model / "saved_model"), f"TensorFlow {tf.__version__}"


def _keras(model: Path, values: sample_answers.Array) -> LoadedModel:
    """Run the Keras file; it takes raw inputs only if the model does not normalise them."""
    import keras

    loaded = keras.models.load_model(model / "model.keras", compile=False)
    dtype = getattr(loaded.inputs[0], "dtype", None) or "float32"
    name = getattr(dtype, "name", dtype)
    return lambda batch: np.asarray(loaded(batch.astype(name), training=False)), f"Keras {keras.__version__}"


def _tflite(model: Path, _values: sample_answers.Array) -> LoadedModel:
    from ai_edge_litert import interpreter as litert

    interpreter = litert.Interpreter(str(model / "model.tflite"), num_threads=1)
    runner = interpreter.get_signature_runner("serving_default")
    [(name, about)] = runner.get_input_details().items()

    def call(batch: sample_answers.Array) -> sample_answers.Array:
        [answers] = runner(**{name: batch.astype(about["dtype"])}).values()
        return np.array(answers)

    version = getattr(litert, "__version__", "") or _version("ai-edge-litert")
    return call, f"LiteRT {version}"


def _onnx(model: Path, _values: sample_answers.Array) -> LoadedModel:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model / "model.onnx"), options, providers=["CPUExecutionProvider"])
    [about] = session.get_inputs()
    dtype = {"tensor(float)": "float32", "tensor(double)": "float64"}.get(about.type, about.type[7:-1])

    def call(batch: sample_answers.Array) -> sample_answers.Array:
        return np.asarray(session.run(None, {about.name: batch.astype(dtype)})[0])

    return call, f"onnxruntime {onnxruntime.__version__}"


def _tfjs(model: Path, output: Path, values: sample_answers.Array, latency_runs: int) -> AnswerReport:
    """Node reads the sample as raw bytes and writes the answers the same way."""
    script = Path(__file__).with_name("tfjs_run.cjs")
    with tempfile.TemporaryDirectory() as folder:
        raw, answers = Path(folder, "inputs.bin"), Path(folder, "answers.bin")
        raw.write_bytes(np.ascontiguousarray(values.astype("<f4")).tobytes())
        request = {
            "model": str(model / "model.json"),
            "inputs": str(raw),
            "shape": list(values.shape),
            "output": str(answers),
            "batch": sample_answers.BATCH,
            "latencyRuns": latency_runs,
            "packages": os.environ.get(NODE_FOLDER, "."),
        }
        done = run_command(["node", str(script), json.dumps(request)])
        if done.returncode:
            raise RuntimeError((done.stderr.strip().splitlines() or ["no reason given by Node"])[-1])
        report = json.loads(done.stdout.strip().splitlines()[-1])
        found = np.frombuffer(answers.read_bytes(), "<f4").reshape(report["shape"])
    np.save(output, found, allow_pickle=False)
    return AnswerReport(len(found), found.shape, report.get("latencyMilliseconds"), report["runtime"])


def _version(distribution: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


RUNTIMES: dict[str, Callable[[Path, sample_answers.Array], LoadedModel]] = {
    "saved_model": _saved_model,
    "keras": _keras,
    "tflite": _tflite,
    "onnx": _onnx,
}
