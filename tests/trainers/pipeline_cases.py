"""Models that a pipeline could get wrong, beside those of ``training_cases``; and their experiments on a grid."""

from __future__ import annotations

import copy
from typing import Any

from training_cases import CASES as PLAIN_CASES

from saman.configs.experiment import Experiment
from saman.trainers import Context, Splits


def long_skips(input_shape: Any) -> Any:
    """Skips over several cuts, one of them from the input; moving statistics on the way."""
    from saman.trainers.keras_compat import keras

    layers = keras.layers
    inputs = keras.Input(input_shape)
    flat = layers.Flatten()(inputs)
    one = layers.Dense(8, activation="tanh", name="one")(flat)
    two = layers.BatchNormalization(name="two")(layers.Dense(8, kernel_regularizer="l2", use_bias=False)(one))
    three = layers.Dense(8, activation="tanh", name="three")(layers.Concatenate()([two, flat]))
    four = layers.Dropout(0.3, name="four")(layers.Add()([three, one]))
    return keras.Model(inputs, layers.Dense(4, activation="softmax", name="five")(layers.Concatenate()([four, flat, two])))


def sentences(ctx: Context) -> Splits:
    """Token ids with padding."""
    import numpy as np
    import tensorflow as tf

    drawn = np.random.default_rng(5).integers(1, 12, size=(101, 6)).astype("int32")
    drawn[::3, 4:] = 0
    labels = (drawn.sum(1) % 4).astype("int32")
    dataset = tf.data.Dataset.from_tensor_slices((drawn, labels))
    return Splits(dataset.take(80), dataset.skip(80))


def masked() -> Any:
    """A mask that crosses cuts together with its tensor."""
    from saman.trainers.keras_compat import keras

    layers = keras.layers
    inputs = keras.Input((6,), dtype="int32")
    x = layers.Embedding(12, 6, mask_zero=True, name="embedding")(inputs)
    x = layers.TimeDistributed(layers.Dense(5, activation="tanh"), name="wide")(x)
    x = layers.LSTM(4, name="recurrent")(layers.Dropout(0.2, name="drop")(x))
    return keras.Model(inputs, layers.Dense(4, activation="softmax", name="last")(x))


def transformer(input_shape: Any) -> Any:
    """saman's own, with dropout; layers bear names that do not depend on what was built before."""
    from saman.trainers.keras_compat import keras
    from saman.trainers.models.transformer import build

    keras.backend.clear_session()
    return build(input_shape, 4, 12, 8, 2, 2, 0.1)


def _case(name: str, base: str, **more: Any) -> dict[str, Any]:
    case = copy.deepcopy(PLAIN_CASES[base])
    train = more.pop("train", {})
    case.update(name=name, **more)
    case["train"].update(train)
    return case


# name -> (case, first layer of each later stage by number of stages)
CASES: dict[str, tuple[dict[str, Any], dict[int, list[str]]]] = {
    "skips": (
        _case(
            "skips",
            "plain",
            model={"build": "pipeline_cases:long_skips"},
            train={"precision": "float64", "micro_batches": 4},
        ),
        {2: ["three"], 3: ["two", "four"], 4: ["two", "three", "five"]},
    ),
    "masks": (
        _case(
            "masks",
            "plain",
            model={"build": "pipeline_cases:masked"},
            data={"source": "pipeline_cases:sentences"},
            train={"precision": "float64", "micro_batches": 4, "optimizer": {"name": "lamb"}},
        ),
        {2: ["drop"], 3: ["wide", "recurrent"], 4: ["wide", "drop", "last"]},
    ),
}

def on_grid(case: dict[str, Any], stages: int, replicas: int, pipeline: dict[str, Any], **train: Any) -> Experiment:
    """The experiment of a case on stages × replicas; its micro-batches are spread over the replicas."""
    values = copy.deepcopy(case)
    values["train"].update(strategy="pipeline", pipeline={"stages": stages, **pipeline}, **train)
    values["train"]["micro_batches"] = max(1, values["train"].get("micro_batches", 1) // replicas)
    values["resources"] = {"ranks_per_node": stages * replicas}
    return Experiment.model_validate(values)
