"""Small models and data for the trainers' tests, with everything that a strategy could get wrong."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import numpy as np

from saman.trainers import Context, Splits

EXAMPLES = 24 * 6 + 5  # the last of seven batches is short: most ranks and micro-batches get none of it


def _arrays(count: int = EXAMPLES) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 4, count).astype("int32")
    return (rng.normal(size=(count, 6, 6, 1)) + labels[:, None, None, None]).astype("float32"), labels


def images(ctx: Context) -> Splits:
    """Images without a map: every rank reads them whole."""
    import tensorflow as tf

    inputs, labels = _arrays()
    held_out = _arrays(29)
    return Splits(tf.data.Dataset.from_tensor_slices((inputs, labels)), tf.data.Dataset.from_tensor_slices(held_out))


def noisy(ctx: Context) -> Splits:
    """Two inputs, a map that augments with its seed, labels as one-hot rows."""
    import tensorflow as tf

    inputs, labels = _arrays()

    def read(index: Any) -> Any:
        pair = {"image": tf.gather(inputs, index), "kind": tf.gather(labels, index) % 3}
        return pair, tf.one_hot(tf.gather(labels, index), 4)

    def augmented(index: Any, seed: Any) -> Any:
        pair, label = read(index)
        shift = tf.random.stateless_normal([6, 6, 1], seed, stddev=0.1)
        return {**pair, "image": pair["image"] + shift}, label

    return Splits(tf.data.Dataset.range(EXAMPLES), tf.data.Dataset.range(40), augmented, read)


def convolutional(input_shape: Any) -> Any:
    """BatchNorm, dropout twice, a regulariser."""
    from saman.trainers.keras_compat import keras

    layers = keras.layers
    inputs = keras.Input(input_shape)
    # The gradient of a bias before BatchNorm is rounding error, which Adam would amplify.
    x = layers.Conv2D(4, 3, use_bias=False, kernel_regularizer=keras.regularizers.L2(1e-3))(inputs)
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.8)(x))
    x = layers.Dropout(0.3)(layers.Flatten()(x))
    x = layers.Dropout(0.2)(layers.Dense(8, activation="tanh")(x))
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(x))


def two_inputs() -> Any:
    """An embedding (sparse gradients) beside an image, and a layer that is frozen; logits."""
    from saman.trainers.keras_compat import keras

    layers = keras.layers
    image, kind = keras.Input((6, 6, 1), name="image"), keras.Input((), dtype="int32", name="kind")
    frozen = layers.Dense(5, trainable=False)
    x = layers.Concatenate()([frozen(layers.Flatten()(image)), layers.Embedding(3, 4)(kind)])
    x = layers.Dense(8, activation="tanh")(layers.LayerNormalization()(x))
    return keras.Model({"image": image, "kind": kind}, layers.Dense(4)(x))


def measured(ctx: Context) -> Splits:
    """``noisy``, with two parts of labels: a class as a row, and a number."""
    import tensorflow as tf

    data = noisy(ctx)

    def both(made: Any) -> Any:
        pair, label = made
        return pair, {"label": label, "size": tf.reduce_sum(pair["image"], [0, 1])}

    def augmented(index: Any, seed: Any) -> Any:
        return both(data.map(index, seed))  # type: ignore[misc]

    def plain(index: Any) -> Any:
        return both(data.validation_map(index))  # type: ignore[misc]

    return Splits(data.train, data.validation, augmented, plain)


def two_outputs() -> Any:
    """``two_inputs`` with a second output: a number.

    TensorFlow does not tell the shape of a gradient of a dense layer whose input has more than two axes.
    """
    from saman.trainers.keras_compat import keras

    model = two_inputs()
    of_pixels = keras.layers.Dense(2, activation="tanh")(model.inputs[0])
    size = keras.layers.Dense(1)(keras.layers.Flatten()(of_pixels))
    return keras.Model(model.input, {"label": model.output, "size": size})


def wide_embedding() -> Any:
    """An embedding of which a batch touches few rows, beside an image; logits."""
    from saman.trainers.keras_compat import keras

    layers = keras.layers
    image, kind = keras.Input((6, 6, 1), name="image"), keras.Input((), dtype="int32", name="kind")
    x = layers.Concatenate()([layers.Dense(5)(layers.Flatten()(image)), layers.Embedding(40, 4)(kind)])
    return keras.Model({"image": image, "kind": kind}, layers.Dense(4)(layers.Dense(8, activation="tanh")(x)))


def targets(ctx: Context) -> Splits:
    """Numbers to regress on: one-hot rows."""
    import tensorflow as tf

    inputs, labels = _arrays()
    data = tf.data.Dataset.from_tensor_slices((inputs, np.eye(4, dtype="float32")[labels]))
    return Splits(data, data.take(20))


def sequences(ctx: Context) -> Splits:
    """Rows of numbers instead of images."""
    import tensorflow as tf

    return Splits(tf.data.Dataset.from_tensor_slices((np.zeros((30, 5), "float32"), np.zeros(30, "int32"))))


def broken(ctx: Context) -> Splits:
    """Raise an error in the user's code."""
    raise ZeroDivisionError("division by zero")


def wrong(ctx: Context) -> Any:
    """Return something that is not ``Splits``."""
    return two_inputs()


KERAS_2 = version("keras").startswith("2.")
METRICS: list[Any] = ["mean_absolute_error"]
if not KERAS_2:  # which sums means only
    METRICS += ["auc", {"name": "f1_score", "args": {"average": "macro"}}]
    METRICS += [{"name": "sparse_top_k_categorical_accuracy", "args": {"k": 2}, "as": "top_2"}]

_CHECKPOINT = {"every_epochs": 1, "keep": 2}
CASES: dict[str, dict[str, Any]] = {
    "plain": {
        "model": {"build": "mlp", "args": {"classes": 4, "hidden": [8]}},
        "data": {"source": "training_cases:images"},
        "train": {
            "global_batch_size": 24,
            "optimizer": {"name": "sgd", "momentum": 0.9, "nesterov": True},
            "learning_rate": {"base": 0.05, "warmup_epochs": 1, "schedule": "cosine"},
            "clip_gradients": {"global_norm": 0.5},
        },
    },
    "every_layer": {
        "model": {"build": "training_cases:convolutional"},
        "data": {"source": "training_cases:images"},
        "train": {
            "global_batch_size": 24,
            "micro_batches": 12,
            "precision": "float64",
            "optimizer": {"name": "adamw", "weight_decay": 0.01},
            "learning_rate": 0.01,
            "clip_gradients": {"value": 0.1},
        },
    },
    "two_inputs": {
        "model": {"build": "training_cases:two_inputs"},
        "data": {"source": "training_cases:noisy"},
        "train": {
            "global_batch_size": 24,
            "loss": "categorical_crossentropy",
            "from_logits": True,
            "precision": "float64",
            "optimizer": {"name": "lamb"},
            "learning_rate": 0.01,
        },
    },
}
for _name, _case in CASES.items():
    _case["name"] = _name.replace("_", "-")
    _case["train"].update(epochs=3, seed=11, checkpoint=_CHECKPOINT)

# Nothing improves by so much: the rate is reduced after the second epoch, and not again.
_PLATEAU = {"metric": "val_loss", "patience": 1, "min_delta": 100.0, "factor": 0.5, "cooldown": 2}
# The cases of data-parallel strategies: with everything that must be in checkpoints and sums, and with two outputs.
_AVERAGED: dict[str, Any] = {
    "label_smoothing": 0.1,
    "metrics": METRICS,
    "ema": {"decay": 0.9},
    "layer_rates": {"dense*": 0.5},
    "validate_every_steps": 5,
    "learning_rate": {"base": 0.01, "reduce_on_plateau": _PLATEAU},
}
_OUTPUTS = {
    "label": {"loss": "categorical_crossentropy", "from_logits": True, "metrics": ["categorical_accuracy"]},
    "size": {"loss": "huber", "weight": 0.1, "metrics": ["mean_absolute_error"]},
}
_IN_COMMON = {key: value for key, value in CASES["two_inputs"]["train"].items() if key not in ("loss", "from_logits")}
PARALLEL: dict[str, dict[str, Any]] = {
    "plain": CASES["plain"],
    "every_layer": {**CASES["every_layer"], "train": {**CASES["every_layer"]["train"], **_AVERAGED}},
    "two_outputs": {
        "name": "two-outputs",
        "model": {"build": "training_cases:two_outputs"},
        "data": {"source": "training_cases:measured"},
        "train": {**_IN_COMMON, "outputs": _OUTPUTS},
    },
}


def on_a_slow_disk(ctx: Context) -> Splits:
    """``images``, in a process that waits 0.15 s for each ``fsync``: a checkpoint takes longer than several steps."""
    import os
    import time

    fsync = os.fsync

    def slow(descriptor: int) -> None:
        time.sleep(0.15)
        fsync(descriptor)

    os.fsync = slow  # type: ignore[assignment]
    return images(ctx)


def uneven() -> Any:
    """A dense model whose forward pass takes 100 ms longer on rank 1, from the 31st step on."""
    import os
    import time

    from saman.trainers.keras_compat import keras, tf

    calls = 0

    def sleep() -> np.ndarray:
        nonlocal calls
        calls += 1
        if calls > 30 and "1" in (os.environ.get("OMPI_COMM_WORLD_RANK"), os.environ.get("SAMAN_FIRST_RANK")):
            time.sleep(0.1)
        return np.zeros((), "float32")

    class Sleep(keras.layers.Layer):  # type: ignore[misc]
        def call(self, inputs: Any) -> Any:
            return inputs + tf.ensure_shape(tf.numpy_function(sleep, [], tf.float32), [])

    inputs = keras.Input((6, 6, 1))
    x = Sleep()(keras.layers.Flatten()(inputs))
    return keras.Model(inputs, keras.layers.Dense(4, activation="softmax")(x))


BAD_EXAMPLE = 40  # of ``poisoned``: its values are not numbers


def poisoned(ctx: Context) -> Splits:
    """Images, read by position; one of them is not a number."""
    import tensorflow as tf

    inputs, labels = _arrays(EXAMPLES - 5)
    inputs[BAD_EXAMPLE] = np.nan
    held_out = _arrays(29)
    data = tf.data.Dataset.from_tensor_slices((inputs, labels))
    return Splits(data, tf.data.Dataset.from_tensor_slices(held_out))


def corrupted() -> Any:
    """A dense model in which the memory of rank 1 loses a bit of a weight at its 31st step."""
    import os

    from saman.trainers.keras_compat import keras, tf

    calls = 0

    class Flips(keras.layers.Layer):  # type: ignore[misc]
        def build(self, shape: Any) -> None:
            self.table = self.add_weight(shape=(36,), initializer="ones", name="table")

        def flip(self) -> np.ndarray:
            nonlocal calls
            calls += 1
            if calls == 31 and "1" in map(os.environ.get, ("OMPI_COMM_WORLD_RANK", "HOROVOD_RANK")):
                variable = self.table if isinstance(self.table, tf.Variable) else self.table.value
                value = variable.numpy()
                value[3] = np.nextafter(value[3], np.float32(2))
                variable.assign(value)
            return np.zeros((), "float32")

        def call(self, inputs: Any) -> Any:
            return inputs * self.table + tf.ensure_shape(tf.numpy_function(self.flip, [], tf.float32), [])

    inputs = keras.Input((6, 6, 1))
    x = Flips()(keras.layers.Flatten()(inputs))
    return keras.Model(inputs, keras.layers.Dense(4, activation="softmax")(x))
