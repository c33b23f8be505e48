"""Answers of a SavedModel through its serving signature."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from saman.runs.records.converter_report import AnswerReport
from saman.trainers.convert import sample_answers

SIGNATURE = "serving_default"
FIRST = "outputs"  # the only output, or the first of several, which saman exports under this name too


def serving(model: Path) -> tuple[Any, str, Any]:
    """Load the serving signature of a model to convert or compare.

    Returns:
        Its function (which keeps the model alive), and name and spec of its input.

    Raises:
        ValueError: The model has no such signature, several inputs, or several outputs of which none is the first.
    """
    import tensorflow as tf

    loaded = tf.saved_model.load(str(model))
    if SIGNATURE not in loaded.signatures:
        raise ValueError(f"the model has no signature {SIGNATURE!r}, only {sorted(loaded.signatures)}")
    function = loaded.signatures[SIGNATURE]
    function._saman_model = loaded  # the signature alone does not keep the variables alive
    specs, outputs = function.structured_input_signature[1], function.structured_outputs
    if len(specs) != 1 or (len(outputs) != 1 and FIRST not in outputs):
        raise ValueError(f"the signature has {len(specs)} inputs and {len(outputs)} outputs; 1 of each")
    [(name, spec)] = specs.items()
    return function if len(outputs) == 1 else _first_alone(function, name, spec), name, spec


def _first_alone(function: Any, name: str, spec: Any) -> Any:
    """Return a signature of several outputs with the first alone; it keeps the model alive."""
    import tensorflow as tf

    alone = tf.function(lambda **values: {FIRST: function(**values)[FIRST]})
    made = alone.get_concrete_function(**{name: tf.TensorSpec(spec.shape, spec.dtype, name)})
    made._saman_model = function
    return made


def caller(model: Path) -> Any:
    """Load a model as a function from a batch of raw inputs to answers, both NumPy arrays."""
    import tensorflow as tf

    function, name, spec = serving(model)

    def call(values: sample_answers.Array) -> sample_answers.Array:
        [answers] = function(**{name: tf.constant(values, dtype=spec.dtype)}).values()
        return answers.numpy()

    return call


def answer(model: Path, output: Path, inputs: Path, latency_runs: int) -> AnswerReport:
    """Write a converted model's answers to the sample to a file.

    Args:
        model: The SavedModel's folder.
        output: The file to write (.npy), answers stacked along the first axis.
        inputs: The sample's file (.npz).
        latency_runs: Number of calls to time; 0 measures no latency.
    """
    return sample_answers.write_answers(caller(model), sample_answers.inputs(inputs), output, latency_runs)
