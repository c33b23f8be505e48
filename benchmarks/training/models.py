"""The models and inputs of the speed benchmarks, the same objects for a plain script and for saman."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np


def build(name: str) -> Any:
    """The Keras model called ``name``."""
    import keras
    from keras import layers

    if name == "mlp":
        stack: list[Any] = [keras.Input([784]), *(layers.Dense(512, "relu") for _ in range(2))]
    elif name == "cnn":
        stack = [keras.Input([28, 28, 1])]
        for filters in (32, 64):
            stack += [layers.Conv2D(filters, 3, padding="same", activation="relu"), layers.MaxPooling2D()]
        stack += [layers.Flatten(), layers.Dense(128, "relu")]
    elif name == "resnet50":
        return keras.applications.ResNet50(weights=None, input_shape=(96, 96, 3), classes=10)
    else:
        from saman.trainers.models.transformer import build as transformer

        return transformer((64,), classes=10, vocabulary=1000, width=64, heads=4, blocks=2, dropout=0.0)
    return keras.Sequential([*stack, layers.Dense(10, "softmax")])


def _images(*shape: int) -> Any:
    def make(examples: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(1)
        values = rng.random((examples, *shape), dtype="float32")
        return values, rng.integers(0, 10, examples, dtype="int32")

    return make


def _tokens(examples: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.integers(0, 1000, (examples, 64), dtype="int32"), rng.integers(0, 10, examples, dtype="int32")


INPUTS = {"mlp": _images(784), "cnn": _images(28, 28, 1), "resnet50": _images(96, 96, 3), "transformer": _tokens}
BATCH = {"mlp": 64, "cnn": 64, "resnet50": 16, "transformer": 64}
EXAMPLES = {"mlp": 8192, "cnn": 8192, "resnet50": 512, "transformer": 8192}
EPOCH = 65536  # examples of an epoch of saman's runs: the arrays several times over; a plain script has no epochs


def model(name: str) -> Any:
    """The model, as an experiment names it."""
    return build(name)


def data(ctx: Any, name: str) -> Any:
    """The inputs, read by position; the same object in every epoch, so that saman keeps its pipeline."""
    return _held(name)


@functools.cache
def _held(name: str) -> Any:
    import tensorflow as tf

    from saman.trainers import RandomAccess, Splits

    inputs, labels = (tf.constant(array) for array in INPUTS[name](EXAMPLES[name]))

    def read(at: Any) -> tuple[Any, Any]:
        place = at % EXAMPLES[name]
        return tf.gather(inputs, place), tf.gather(labels, place)

    return Splits(RandomAccess(EPOCH, read))
