"""A compute-bound model of many even layers, which can be cut anywhere."""

from __future__ import annotations

from typing import Any


def convolutions(input_shape: Any, depth: int = 12, filters: int = 64) -> Any:
    """3×3 convolutions of one width, then a classifier."""
    from saman.trainers.keras_compat import keras

    inputs = keras.Input(input_shape)
    x = inputs
    for number in range(depth):
        x = keras.layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"conv_{number}")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(10, activation="softmax")(x))
