"""The models that saman ships by name, and the user's function; the last layer gives probabilities in float32."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

from saman.configs.errors import UserError
from saman.configs.names import is_reference
from saman.configs.schemas.builtins import APPLICATIONS
from saman.configs.schemas.experiment import Model
from saman.trainers.data.sources import bound, user_function
from saman.trainers.keras_compat import keras


def build(model: Model, input_shape: Any) -> Any:
    """A built Keras model for inputs of ``input_shape`` (without the batch axis).

    Raises ``UserError`` where the shape or the arguments do not suit the model.
    """
    if is_reference(model.build):
        return _users(model, input_shape)
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


def _users(model: Model, input_shape: Any) -> Any:
    function = user_function(model.build, "model.build")
    takes_shape = "input_shape" in inspect.signature(function).parameters
    call = bound(function, "model", **model.args, **({"input_shape": input_shape} if takes_shape else {}))
    built = function(*call.args, **call.kwargs)
    if isinstance(built, (list, tuple)) and built and all(isinstance(one, keras.layers.Layer) for one in built):
        built = _one_after_another(built, input_shape)
    right = "a keras.Model, or a list of layers"
    if not isinstance(built, keras.Model):
        raise UserError(f"{model.build} returned {type(built).__name__}", where="model.build", remedy=right)
    if not built.built:
        built(_example(input_shape))
    return built


def _one_after_another(parts: Any, input_shape: Any) -> Any:
    """A model of layers or models, of which each takes what the one before gives; subclassed ones are never cut."""
    inputs = _example(input_shape)
    passed = inputs
    for part in parts:
        passed = part(passed)
    return keras.Model(inputs, passed)


def _example(shape: Any) -> Any:
    if isinstance(shape, dict):
        return {name: _example(one) for name, one in shape.items()}
    if isinstance(shape, tuple) and all(isinstance(size, (int, type(None))) for size in shape):
        return keras.Input(shape)
    return type(shape)(_example(one) for one in shape)
