"""Answers of a SavedModel through its serving signature."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from saman.runs.records.converter_report import AnswerReport
from saman.trainers.convert import sample_answers
from saman.trainers.convert.sample_answers import FIRST, Array, Named

SIGNATURE = "serving_default"


def serving(model: Path) -> tuple[Any, dict[str, Any]]:
    """Load the serving signature of a model to convert or compare.

    Returns:
        Its function (which keeps the model alive), and the specs of its inputs by name.

    Raises:
        ValueError: The model has no such signature, or several outputs of which none is the first.
    """
    import tensorflow as tf

    loaded = tf.saved_model.load(str(model))
    if SIGNATURE not in loaded.signatures:
        raise ValueError(f"the model has no signature {SIGNATURE!r}, only {sorted(loaded.signatures)}")
    function = loaded.signatures[SIGNATURE]
    function._saman_model = loaded  # the signature alone does not keep the variables alive
    outputs = function.structured_outputs
    if len(outputs) != 1 and FIRST not in outputs:
        named = ", ".join(sorted(outputs))
        raise ValueError(f"the signature has the outputs {named}, and none is called {FIRST}: which is the first?")
    return function, dict(function.structured_input_signature[1])


def output_names(function: Any) -> list[str]:
    """Return the names of a converted model's outputs, the first of the model in front."""
    names = sorted(function.structured_outputs)
    return names if FIRST not in names else [FIRST, *(name for name in names if name != FIRST)]


def caller(model: Path) -> Callable[[Named], dict[str, Array]]:
    """Load a model as a function from a batch of raw inputs by name to answers by name, all NumPy arrays.

    The first output is called ``FIRST``; of several outputs it stands under its own name too.
    """
    import tensorflow as tf

    function, specs = serving(model)
    only = list(function.structured_outputs)[0] if len(function.structured_outputs) == 1 else None

    def call(values: Named) -> dict[str, Array]:
        answers = function(**{name: tf.constant(values[name], dtype=spec.dtype) for name, spec in specs.items()})
        if only is not None:
            return {FIRST: answers[only].numpy()}
        return {name: array.numpy() for name, array in answers.items()}

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
