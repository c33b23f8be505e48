"""Networks of keras.applications without weights, on images of the data's own size."""

from __future__ import annotations

from typing import Any

from saman.configs.schemas.builtins import APPLICATIONS
from saman.trainers.keras_compat import keras


def build(input_shape: tuple[int, ...], name: str, classes: int) -> Any:
    """The network with its own head; raises ``ValueError`` where the images are too small for it."""
    if len(input_shape) != 3:
        raise ValueError("images have (height, width, channels)")
    make = getattr(keras.applications, APPLICATIONS[name])
    network = make(weights=None, input_shape=input_shape, classes=classes, classifier_activation=None)
    # Softmax in float32 (or float64), which half precision would spoil.
    softmax = keras.layers.Activation("softmax", dtype=keras.backend.floatx())
    return keras.Model(network.inputs, softmax(network.outputs[0]), name=name)
