"""Networks of keras.applications without pretrained weights, for images of any size."""

from __future__ import annotations

from typing import Any

from saman.configs.schemas.builtins import APPLICATIONS
from saman.trainers.keras_compat import keras


def build(input_shape: tuple[int, ...], name: str, classes: int) -> Any:
    """Build a network of ``keras.applications`` without weights, with softmax at its end.

    Args:
        input_shape: Height, width and channels.
        name: A key of ``APPLICATIONS``.
        classes: Number of classes.

    Raises:
        ValueError: The inputs are too small, or are not images.
    """
    if len(input_shape) != 3:
        raise ValueError("images need the shape (height, width, channels)")
    make = getattr(keras.applications, APPLICATIONS[name])
    network = make(weights=None, input_shape=input_shape, classes=classes, classifier_activation=None)
    # Softmax in float32 (or float64), which half precision would spoil.
    softmax = keras.layers.Activation("softmax", dtype=keras.backend.floatx())
    return keras.Model(network.inputs, softmax(network.outputs[0]), name=name)
