"""A multilayer perceptron on flattened inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from saman.trainers.keras_compat import keras


def build(input_shape: tuple[int, ...], classes: int, hidden: Sequence[int], dropout: float) -> Any:
    """Build a multilayer perceptron: dense layers with ReLU and dropout, then probabilities.

    Args:
        input_shape: The shape of an example; it is flattened.
        classes: Number of classes.
        hidden: Number of units of each hidden layer.
        dropout: The share of units to drop after each hidden layer; 0 for no dropout.
    """
    layers = keras.layers
    inputs = keras.Input(input_shape)
    x = layers.Flatten()(inputs)
    for units in hidden:
        x = layers.Dense(units, activation="relu")(x)
        if dropout:
            x = layers.Dropout(dropout)(x)
    return keras.Model(inputs, probabilities(x, classes))


def probabilities(features: Any, classes: int) -> Any:
    """Apply a dense layer, then softmax in float32 (or float64): half precision is too coarse for it."""
    logits = keras.layers.Dense(classes)(features)
    return keras.layers.Activation("softmax", dtype=keras.backend.floatx())(logits)
