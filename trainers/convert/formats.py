"""Converts a version's SavedModel to the formats of other runtimes, with their own converters."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from saman.runs.commands import run_command
from saman.runs.records.converter_report import Conversion
from saman.trainers.convert import sample_answers
from saman.trainers.convert.predict import SIGNATURE, output_names, serving

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

        frozen, specs = _frozen(model, output / "frozen")
        converter = tf.lite.TFLiteConverter.from_saved_model(str(frozen), signature_keys=[SIGNATURE])
        calibration_examples = None
        if kind != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if kind == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if kind == "int8":
            stored = sample_answers.inputs(inputs)
            values = {
                name: stored[name][:CALIBRATION_EXAMPLES].astype(spec.dtype.as_numpy_dtype)
                for name, spec in specs.items()
            }

            def representative() -> Iterator[dict[str, sample_answers.Array]]:
                yield from sample_answers.batches(values, 1)

            converter.representative_dataset = representative
            ops = tf.lite.OpsSet
            converter.target_spec.supported_ops = [ops.TFLITE_BUILTINS_INT8, ops.TFLITE_BUILTINS]
            calibration_examples = sample_answers.examples(values)
        (output / "model.tflite").write_bytes(converter.convert())
        shutil.rmtree(frozen)
        return Conversion(f"tf.lite of TensorFlow {tf.__version__}", calibration_examples)

    return to_tflite


def _frozen(model: Path, output: Path) -> tuple[Path, dict[str, Any]]:
    """Save the model with its weights as constants; returns its folder, and the specs of its inputs by name.

    LiteRT never initialises the variables of Keras 3: without this step the model answers with zeros or NaN.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    function, specs = serving(model)
    constant = convert_variables_to_constants_v2(function)
    # Positions: a frozen function takes and returns flat lists, in the order of the signature's own tensors.
    order = [tensor.name.partition(":")[0] for tensor in constant.inputs]
    order = order if set(order) == set(specs) else sorted(specs)
    answers = sorted(function.structured_outputs)  # as tf.nest flattens a dictionary
    module = tf.Module()

    def serve(**values: Any) -> dict[str, Any]:
        found = constant(*(values[name] for name in order))
        return {name: tf.identity(tensor) for name, tensor in zip(answers, found, strict=True)}

    module.serve = tf.function(serve, autograph=False)
    signature = module.serve.get_concrete_function(**_named_specs(specs))
    tf.saved_model.save(module, str(output), signatures={SIGNATURE: signature})
    return output, specs


def _named_specs(specs: Mapping[str, Any]) -> dict[str, Any]:
    import tensorflow as tf

    return {name: tf.TensorSpec(spec.shape, spec.dtype, name=name) for name, spec in specs.items()}


def _onnx(model: Path, output: Path, _inputs: Path) -> Conversion:
    """Convert to ONNX; inputs keep their names, outputs their order: the first of the model, then the rest by name."""
    import onnx
    import tensorflow as tf
    import tf2onnx

    function, specs = serving(model)
    names = list(specs)
    graph = tf.function(
        lambda *values: [function(**dict(zip(names, values, strict=True)))[name] for name in output_names(function)],
        input_signature=list(_named_specs(specs).values()),
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
