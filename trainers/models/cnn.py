"""A convolutional network: blocks of 3×3 kernels and pooling, then a dense layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from saman.trainers.keras_compat import keras
from saman.trainers.models.mlp import probabilities


def build(
    input_shape: tuple[int, ...], classes: int, filters: Sequence[int], dense: int, batch_norm: bool, dropout: float
) -> Any:
    """Build the network.

    Args:
        input_shape: (height, width) or (height, width, channels).
        classes: The number of probabilities.
        filters: The number of filters of each block.
        dense: The units of the dense layer.
        batch_norm: Whether each block has a BatchNormalization.
        dropout: The dropout rate before the last layer.

    Raises:
        ValueError: The inputs are no images.
    """
    if len(input_shape) not in (2, 3):
        raise ValueError("images need the shape (height, width) or (height, width, channels)")
    layers = keras.layers
    inputs = keras.Input(input_shape)
    x = inputs if len(input_shape) == 3 else layers.Reshape((*input_shape, 1))(inputs)
    for width in filters:
        x = layers.Conv2D(width, 3, padding="same", use_bias=not batch_norm)(x)
        if batch_norm:
            x = layers.BatchNormalization()(x)
        x = layers.ReLU()(x)
        x = layers.MaxPooling2D(padding="same")(x)
    x = layers.Dense(dense, activation="relu")(layers.Flatten()(x))
    if dropout:
        x = layers.Dropout(dropout)(x)
    return keras.Model(inputs, probabilities(x, classes))
