"""Writes and loads a model's files: ``model.keras`` and the SavedModel with its serving signature."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from saman.trainers.keras_compat import keras, tensor_of, tf


def save_keras_file(model: Any, path: Path) -> None:
    """Write ``model`` as a ``.keras`` file."""
    model.save(str(path))


def load_keras_file(path: Path) -> Any:
    """Return the model of an exported ``.keras`` file, without its optimiser."""
    return keras.models.load_model(str(path), compile=False)


def save_serving(model: Any, path: Path, serve: Callable[..., Any], signature: Sequence[Any]) -> None:
    """Write a SavedModel.

    Args:
        model: The model; its variables are saved.
        path: The folder to write.
        serve: The function of the serving signature.
        signature: Named TensorSpecs of its arguments.
    """
    module = tf.Module()
    module.variables_ = [tensor_of(variable) for variable in model.variables]
    module.serve = tf.function(serve, input_signature=list(signature), autograph=False)
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})


def load_serving(path: Path) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    """Return the serving signature of an exported SavedModel, which TensorFlow loads and Keras 3 does not."""
    loaded = tf.saved_model.load(str(path))
    function = loaded.signatures["serving_default"]
    function._keep = loaded  # the signature does not hold its variables alive
    return lambda inputs: function(**inputs)
