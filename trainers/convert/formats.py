"""Converts a version's SavedModel to the formats of other runtimes, with their own converters."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from saman.runs.commands import run_command
from saman.runs.records.converter_report import Conversion
from saman.trainers.convert import sample_answers
from saman.trainers.convert.predict import SIGNATURE, serving

CALIBRATION_EXAMPLES = 200
TFLITE = ("tflite-float32", "tflite-float16", "tflite-dynamic", "tflite-int8")


def convert(name: str, model: Path, output: Path, inputs: Path) -> Conversion:
    """Convert a saved model with a converter in this process.

    Args:
        name: The format.
        model: The version's folder.
        output: The folder of the result; it is made.
        inputs: The stored sample, for calibration.

    Raises:
        ValueError: The format is unknown.
    """
    if name not in CONVERTERS:
        raise ValueError(f"the format {name!r} is unknown; known: {', '.join(CONVERTERS)}")
    output.mkdir(parents=True, exist_ok=True)
    return CONVERTERS[name](model, output, inputs)


def _saved_model(model: Path, output: Path, _inputs: Path) -> Conversion:
    """Copy the SavedModel without the registry's own files."""
    target = output / "saved_model"
    shutil.copytree(model, target, ignore=shutil.ignore_patterns("assets.extra"))
    return Conversion("none: a copy")


def _keras(model: Path, output: Path, _inputs: Path) -> Conversion:
    source = model / "assets.extra" / "model.keras"
    if not source.is_file():
        raise ValueError("the version holds no Keras file")
    shutil.copyfile(source, output / "model.keras")
    return Conversion("none: a copy")


def _tflite(kind: str) -> Callable[[Path, Path, Path], Conversion]:
    def to_tflite(model: Path, output: Path, inputs: Path) -> Conversion:
        import tensorflow as tf

        frozen, name, spec = _frozen(model, output / "frozen")
        converter = tf.lite.TFLiteConverter.from_saved_model(str(frozen), signature_keys=[SIGNATURE])
        calibration_examples = None
        if kind != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if kind == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if kind == "int8":
            values = sample_answers.inputs(inputs)[:CALIBRATION_EXAMPLES].astype(spec.dtype.as_numpy_dtype)

            def representative() -> Iterator[dict[str, sample_answers.Array]]:
                for example in sample_answers.batches(values, 1):
                    yield {name: example}

            converter.representative_dataset = representative
            ops = tf.lite.OpsSet
            converter.target_spec.supported_ops = [ops.TFLITE_BUILTINS_INT8, ops.TFLITE_BUILTINS]
            calibration_examples = len(values)
        (output / "model.tflite").write_bytes(converter.convert())
        shutil.rmtree(frozen)
        return Conversion(f"tf.lite of TensorFlow {tf.__version__}", calibration_examples)

    return to_tflite


def _frozen(model: Path, output: Path) -> tuple[Path, str, Any]:
    """Save the model with its weights as constants; returns its folder, and name and spec of the input.

    LiteRT never initialises the variables of Keras 3: without this step the model answers with zeros or NaN.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    function, name, spec = serving(model)
    constant = convert_variables_to_constants_v2(function)
    [answer] = function.structured_outputs
    module = tf.Module()
    module.serve = tf.function(
        lambda values: {answer: constant(values)[0]},
        input_signature=[tf.TensorSpec(spec.shape, spec.dtype, name=name)],
    )
    tf.saved_model.save(module, str(output), signatures={SIGNATURE: module.serve})
    return output, name, spec


def _onnx(model: Path, output: Path, _inputs: Path) -> Conversion:
    import onnx
    import tensorflow as tf
    import tf2onnx

    function, name, spec = serving(model)
    graph = tf.function(
        lambda values: list(function(**{name: values}).values())[0],
        input_signature=[tf.TensorSpec(spec.shape, spec.dtype, name=name)],
    )
    tf2onnx.convert.from_function(
        graph,
        input_signature=graph.input_signature,
        opset=17,
        output_path=str(output / "model.onnx"),
    )
    onnx.checker.check_model(str(output / "model.onnx"))
    return Conversion(f"tf2onnx {tf2onnx.__version__}, opset 17")


def _tfjs(model: Path, output: Path, _inputs: Path) -> Conversion:
    """Run TensorFlow.js' converter in a separate process, because it needs stubs for other libraries."""
    command = [sys.executable, "-m", "saman.trainers.convert.tfjs", str(model), str(output)]
    done = run_command(command)
    if done.returncode == 3:
        raise ModuleNotFoundError(done.stderr.strip(), name=done.stderr.strip().splitlines()[-1])
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no reason given")
    return Conversion(done.stdout.strip().splitlines()[-1])


CONVERTERS: dict[str, Callable[[Path, Path, Path], Conversion]] = {
    "saved_model": _saved_model,
    "keras": _keras,
    **{name: _tflite(name.removeprefix("tflite-")) for name in TFLITE},
    "onnx": _onnx,
    "tfjs": _tfjs,
}
