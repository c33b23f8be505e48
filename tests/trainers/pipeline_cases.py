"""Models that a pipeline could get wrong, besides those of ``training_cases``, and their experiments on a grid."""

from __future__ import annotations

import copy
from typing import Any

import training_cases

from saman.configs.schemas.experiment import Experiment
from saman.trainers import Context, Splits


def long_skips(input_shape: Any) -> Any:
    """Skip connections over several cuts, also from the input, and moving statistics between them."""
    from saman.trainers.keras_compat import keras

    layers = keras.layers
    inputs = keras.Input(input_shape)
    flat = layers.Flatten()(inputs)
    one = layers.Dense(8, activation="tanh", name="one")(flat)
    two = layers.BatchNormalization(name="two")(layers.Dense(8, kernel_regularizer="l2", use_bias=False)(one))
    three = layers.Dense(8, activation="tanh", name="three")(layers.Concatenate()([two, flat]))
    four = layers.Dropout(0.3, name="four")(layers.Add()([three, one]))
    joined = layers.Concatenate()([four, flat, two])
    return keras.Model(inputs, layers.Dense(4, activation="softmax", name="five")(joined))


def sentences(ctx: Context) -> Splits:
    """Token ids with padding."""
    import numpy as np
    import tensorflow as tf

    drawn = np.random.default_rng(5).integers(1, 12, size=(101, 6)).astype("int32")
    drawn[::3, 4:] = 0
    labels = (drawn.sum(1) % 4).astype("int32")
    dataset = tf.data.Dataset.from_tensor_slices((drawn, labels))
    return Splits(dataset.take(80), dataset.skip(80))


def deadly(ctx: Context) -> Splits:
    """Data that kill the last of two stages during training, at about the tenth batch."""
    import os
    import signal

    import numpy as np
    import tensorflow as tf

    def read(index: Any) -> Any:
        if index == 300 and ctx.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return np.float32(index % 7)

    def example(index: Any) -> Any:
        value = tf.numpy_function(read, [index], tf.float32)
        return tf.fill([6, 6, 1], tf.ensure_shape(value, [])), tf.cast(index % 4, tf.int32)

    return Splits(tf.data.Dataset.range(480), None, example)


def masked() -> Any:
    """A mask that crosses cuts with its tensor."""
    from saman.trainers.keras_compat import keras

    layers = keras.layers
    inputs = keras.Input((6,), dtype="int32")
    x = layers.Embedding(12, 6, mask_zero=True, name="embedding")(inputs)
    x = layers.TimeDistributed(layers.Dense(5, activation="tanh"), name="wide")(x)
    x = layers.LSTM(4, name="recurrent")(layers.Dropout(0.2, name="drop")(x))
    return keras.Model(inputs, layers.Dense(4, activation="softmax", name="last")(x))


def transformer() -> Any:
    """Attention with dropout, without the key's bias: its gradient is rounding error."""
    from saman.trainers.keras_compat import keras

    layers = keras.layers
    inputs = keras.Input((6,), dtype="int32")
    x = layers.Embedding(12, 8)(inputs)
    for block in range(2):
        normed = layers.LayerNormalization(name=f"norm_{block}")(x)
        attended = layers.MultiHeadAttention(2, 4, dropout=0.1, use_bias=False, name=f"attend_{block}")(normed, normed)
        x = layers.Add(name=f"join_{block}")([x, attended])
        y = layers.Dropout(0.1)(layers.Dense(8, activation="gelu", name=f"dense_{block}")(x))
        x = layers.Add()([x, y])
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return keras.Model(inputs, layers.Dense(4, activation="softmax", name="last")(x))


def convolutional(input_shape: Any) -> Any:
    """BatchNorm, dropout twice, a regulariser."""
    _names_from_the_start()
    return training_cases.convolutional(input_shape)


def two_inputs() -> Any:
    """A dictionary of inputs, an embedding, a frozen layer."""
    _names_from_the_start()
    return training_cases.two_inputs()


def _names_from_the_start() -> None:
    """Reset the layers' names, so that they do not depend on earlier models and cuts can name them."""
    from saman.trainers.keras_compat import keras

    keras.backend.clear_session()


def _case(name: str, base: str, **more: Any) -> dict[str, Any]:
    case = copy.deepcopy(training_cases.CASES[base])
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
    # built-in models by name
    "mlp": (_case("mlp", "plain", train={"precision": "float64", "micro_batches": 4}), {2: ["dense_1"]}),
    "cnn": (
        _case(
            "cnn",
            "plain",
            model={"build": "cnn", "args": {"classes": 4, "filters": [3, 4], "dense": 5, "dropout": 0.2}},
            train={"precision": "float64", "micro_batches": 4},
        ),
        {2: ["conv2d_1"]},
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
    # BatchNorm, dropout, a regulariser; Adam, clipping by value; a short last batch leaves micro-batches empty
    "layers": (
        _case("layers", "every_layer", model={"build": "pipeline_cases:convolutional"}),
        {2: ["flatten"], 3: ["batch_normalization", "dense"], 4: ["conv2d", "dropout", "dropout_1"]},
    ),
    # two inputs in a dictionary, sparse gradients, a frozen layer, logits
    "inputs": (
        _case("inputs", "two_inputs", model={"build": "pipeline_cases:two_inputs"}),
        {2: ["layer_normalization"], 3: ["embedding", "dense_1"], 4: ["embedding", "layer_normalization", "dense_2"]},
    ),
    "attention": (
        _case(
            "attention",
            "every_layer",
            model={"build": "pipeline_cases:transformer"},
            data={"source": "pipeline_cases:sentences"},
            train={"precision": "float64", "micro_batches": 4, "clip_gradients": {"global_norm": 0.1}},
        ),
        {
            2: ["norm_1"],
            3: ["join_0", "attend_1"],
            4: ["attend_0", "norm_1", "last"],
        },
    ),
}

_STOP = {"metric": "val_loss", "patience": 1, "min_delta": 10.0, "restore_best": True}
_SKIPS, _CUTS = CASES["skips"]
for _name, _change in {
    "half": {"precision": "mixed_float16"},  # overflows in its first steps
    "brain": {"precision": "mixed_bfloat16"},
    "stop": {"early_stop": _STOP},
}.items():
    _other = copy.deepcopy(_SKIPS)
    _other["name"] = _name
    _other["train"].update(_change)
    CASES[_name] = (_other, _CUTS)


def on_grid(case: dict[str, Any], stages: int, replicas: int, pipeline: dict[str, Any], **train: Any) -> Experiment:
    """The experiment of a case on stages × replicas; its micro-batches are spread over the replicas."""
    values = copy.deepcopy(case)
    values["train"].update(strategy="pipeline", pipeline={"stages": stages, **pipeline}, **train)
    values["train"]["micro_batches"] = max(1, values["train"].get("micro_batches", 1) // replicas)
    values["resources"] = {"ranks_per_node": stages * replicas}
    return Experiment.model_validate(values)
