"""Layers and weights by patterns of their names: which are frozen, which have a learning rate of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from saman.configs.errors import UserError, choices
from saman.trainers import keras_compat


def freeze(model: Any, patterns: Sequence[str]) -> None:
    """Freeze the layers whose names fit, before the optimiser is built; a frozen BatchNorm works as in inference.

    Args:
        model: The Keras model.
        patterns: Patterns of names of layers.

    Raises:
        UserError: A pattern fits no layer, or nothing is left to train.
    """
    if not patterns:
        return
    layers = [layer for layer in keras_compat.all_layers(model) if layer is not model]
    for pattern in patterns:
        fitting = [layer for layer in layers if fnmatchcase(layer.name, pattern)]
        if not fitting:
            raise _fits_nothing(pattern, "layer", "train.freeze", [layer.name for layer in layers])
        for layer in fitting:
            layer.trainable = False
    if not model.trainable_variables:
        raise UserError("no weight is left to train", where="train.freeze", remedy="fewer patterns")


def rate_factors(rates: Mapping[str, float], variables: Sequence[Any]) -> dict[int, float]:
    """Return the factor of the learning rate by the place of a variable; the last pattern that fits counts.

    Args:
        rates: The factor by pattern of names such as ``dense/kernel``.
        variables: The trainable variables.

    Raises:
        UserError: A pattern fits no variable.
    """
    names = [keras_compat.name_of(variable) for variable in variables]
    found: dict[int, float] = {}
    for pattern, factor in rates.items():
        fitting = [place for place, name in enumerate(names) if fnmatchcase(name, pattern)]
        if not fitting:
            raise _fits_nothing(pattern, "weight", "train.layer_rates", names)
        found |= dict.fromkeys(fitting, factor)
    return found


def _fits_nothing(pattern: str, what: str, where: str, names: Sequence[str]) -> UserError:
    return UserError(f"{pattern!r} fits no {what} that is trained", where=where, remedy=choices(pattern, names))
