"""Trains a small Keras model and leaves what the trainer's export leaves, for tests that need a real model.

Run as ``python make_export.py FOLDER DATA STEPS SEED [FOLDER DATA STEPS SEED]...``;
DATA is ``digits``, ``synthetic`` or a folder of IDX files.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
import tensorflow as tf


def _idx(file: Path) -> Any:
    with gzip.open(file, "rb") as stream:
        data = stream.read()
    dimensions = data[3]
    shape = [int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(dimensions)]
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def examples(source: str) -> tuple[Any, Any, Any, Any, float]:
    if source == "digits":
        from sklearn.datasets import load_digits

        values, labels = load_digits(return_X_y=True)
        values = values.reshape(-1, 8, 8).astype("float32")
        return values[400:], labels[400:], values[:400], labels[:400], 16.0
    if source == "synthetic":
        rng = np.random.default_rng(0)
        values = rng.normal(size=(2000, 64)).astype("float32")
        labels = values[:, :10].argmax(1)
        return values[200:], labels[200:], values[:200], labels[:200], 1.0
    folder = Path(source)
    train = (_idx(folder / "train-images-idx3-ubyte.gz"), _idx(folder / "train-labels-idx1-ubyte.gz"))
    test = (_idx(folder / "t10k-images-idx3-ubyte.gz"), _idx(folder / "t10k-labels-idx1-ubyte.gz"))
    return (*train, *test, 255.0)  # type: ignore[return-value]


def main(export: Path, source: str, steps: int, seed: int) -> None:
    keras.utils.set_random_seed(seed)
    values, labels, validation, truth, scale = examples(source)
    shape = values.shape[1:]
    flat = [keras.Input(shape), keras.layers.Dense(32, activation="relu"), keras.layers.Dense(10, activation="softmax")]
    network = keras.Sequential(
        flat
        if len(shape) == 1
        else [
            keras.Input(shape),
            keras.layers.Reshape((*shape, 1)),
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    network.compile("adam", "sparse_categorical_crossentropy")
    scaled = values.astype("float32") / scale
    epochs = max(1, steps * 32 // len(values))
    network.fit(scaled, labels, batch_size=32, epochs=epochs, verbose=0)

    @tf.function(input_signature=[tf.TensorSpec([None, *shape], values.dtype, name="inputs")])
    def serve(inputs: Any) -> Any:
        return {"outputs": network(tf.cast(inputs, tf.float32) / scale, training=False)}

    module = tf.Module()
    module.network = network
    module.serve = serve
    export.mkdir(parents=True)
    tf.saved_model.save(module, str(export / "saved_model"), signatures={"serving_default": serve})
    network.save(export / "model.keras")
    np.savez(export / "validation.npz", inputs=validation, labels=truth, ids=np.arange(len(validation)))
    answers = np.asarray(network(validation.astype("float32") / scale))
    accuracy = float((answers.argmax(1) == truth).mean())
    about = {
        "schema": 1,
        "checked": True,
        "max_difference": 0.0,
        "signature": {
            "name": "serving_default",
            "inputs": {"inputs": {"dtype": values.dtype.name, "shape": [None, *shape]}},
            "outputs": {"outputs": {"dtype": "float32", "shape": [None, 10]}},
        },
        "metrics": {"val_accuracy": accuracy},
        "versions": {"tensorflow": tf.__version__, "keras": keras.__version__},
        "data": {"source": source, "seed": seed},
        "statistics": {"mean": float(values.mean()), "std": float(values.std())},
    }
    (export / "export.json").write_text(json.dumps(about))


if __name__ == "__main__":
    for at in range(1, len(sys.argv), 4):
        folder, data, steps, seed = sys.argv[at : at + 4]
        main(Path(folder), data, int(steps), int(seed))
