"""Models that saman ships by name, and the user's function. Shipped models return probabilities in float32."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from saman.configs.errors import UserError
from saman.configs.names import is_reference
from saman.configs.schemas.builtins import APPLICATIONS
from saman.configs.schemas.experiment import Model
from saman.trainers.keras_compat import keras
from saman.trainers.user_code.context import Context
from saman.trainers.user_code.functions import call


def build(model: Model, input_shape: Any, context: Context | None = None) -> Any:
    """Build a Keras model by its name among the shipped models, or a user's.

    Args:
        model: The ``model`` part of the experiment.
        input_shape: The shape of the inputs without the batch axis: a tuple, or a nest of tuples.
        context: What the user's function may ask for with a parameter ``ctx``.

    Raises:
        UserError: The shape or the arguments do not fit the model.
    """
    if is_reference(model.build):
        return _build_users_model(model, input_shape, context)
    if not isinstance(input_shape, tuple) or None in input_shape:
        raise UserError(f"{model.build} takes one input of fixed shape, not {input_shape}", where="model.build")
    name = "applications" if model.build in APPLICATIONS else model.build
    module = import_module(f"saman.trainers.models.{name}")
    args = {"name": model.build, **model.args} if name == "applications" else model.args
    try:
        return module.build(input_shape, **args)
    except ValueError as error:
        problem = f"{model.build} cannot be built for inputs of shape {input_shape}: {error}"
        raise UserError(problem, where="model.build") from error


def _build_users_model(model: Model, input_shape: Any, context: Context | None) -> Any:
    built = call(model.build, "model.build", model.args, input_shape=input_shape, ctx=context)
    if isinstance(built, (list, tuple)) and built and all(isinstance(part, keras.layers.Layer) for part in built):
        built = _chain(built, input_shape)
    if not isinstance(built, keras.Model):
        remedy = "return a keras.Model, or a list of layers"
        raise UserError(f"{model.build} returned {type(built).__name__}", where="model.build", remedy=remedy)
    if not built.built:
        built(_symbolic_inputs(input_shape))
    return built


def _chain(parts: Any, input_shape: Any) -> Any:
    """Return a model that applies the parts in order; a pipeline never cuts inside a subclassed part."""
    inputs = outputs = _symbolic_inputs(input_shape)
    for part in parts:
        outputs = part(outputs)
    return keras.Model(inputs, outputs)


def _symbolic_inputs(shape: Any) -> Any:
    if isinstance(shape, dict):
        return {name: _symbolic_inputs(part) for name, part in shape.items()}
    if isinstance(shape, tuple) and all(isinstance(size, (int, type(None))) for size in shape):
        return keras.Input(shape)
    return type(shape)(_symbolic_inputs(part) for part in shape)
