"""The loss of an experiment as a function of labels and outputs that gives a value per example."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from saman.configs.errors import UserError
from saman.configs.names import is_reference
from saman.configs.schemas.learning.keras_names import CLASSIFICATION
from saman.trainers.keras_compat import keras, tf
from saman.trainers.user_code.context import Context
from saman.trainers.user_code.functions import accepted, bind, import_function

LossFunction = Callable[[Any, Any], Any]


def build(
    name: str,
    args: Mapping[str, Any],
    from_logits: bool,
    smoothing: float,
    context: Context | None = None,
    where: str = "train.loss",
) -> LossFunction:
    """Return the loss: labels and outputs to a value per example, perhaps with further axes.

    Args:
        name: A loss of Keras, or a user's function.
        args: Its arguments.
        from_logits: Whether outputs are logits.
        smoothing: The share of each label that is spread over all classes.
        context: What a user's function may ask for.
        where: The part of the experiment, for messages.

    Raises:
        UserError: The loss does not take its arguments.
    """
    if is_reference(name):
        return _users(name, args, context, where)
    options: dict[str, Any] = dict(args)
    if name in CLASSIFICATION:
        options["from_logits"] = from_logits
    if smoothing and name == "sparse_categorical_crossentropy":
        return _smoothed(options, smoothing)
    if smoothing:
        options["label_smoothing"] = smoothing
    function = keras.losses.get(name)
    try:
        inspect.signature(function).bind(None, None, **options)
    except TypeError as error:
        raise UserError(f"{name}: {error}", where=f"{where}_args") from error
    return lambda labels, outputs: function(labels, outputs, **options)


def _smoothed(options: Mapping[str, Any], smoothing: float) -> LossFunction:
    """Smooth labels that are whole numbers: Keras' sparse loss cannot."""
    function = keras.losses.get("categorical_crossentropy")

    def loss(labels: Any, outputs: Any) -> Any:
        rows = tf.one_hot(tf.cast(labels, tf.int64), outputs.shape[-1], dtype=outputs.dtype)
        return function(rows, outputs, label_smoothing=smoothing, **options)

    return loss


def _users(name: str, args: Mapping[str, Any], context: Context | None, where: str) -> LossFunction:
    function = import_function(name, where)
    offered = accepted(function, {"ctx": context})
    if inspect.isclass(function) or not _takes_pairs(function, {**args, **offered}):
        bound = bind(function, where, **{**args, **offered})
        made = function(*bound.args, **bound.kwargs)
        if not isinstance(made, keras.losses.Loss):
            problem = f"{name} returned {type(made).__name__}"
            raise UserError(problem, where=where, remedy="take (labels, outputs), or return a keras.losses.Loss")
        return lambda labels, outputs: made.call(labels, outputs)
    return lambda labels, outputs: function(labels, outputs, **args, **offered)


def _takes_pairs(function: Callable[..., Any], args: Mapping[str, Any]) -> bool:
    try:
        inspect.signature(function).bind(None, None, **args)
    except TypeError:
        return False
    return True
