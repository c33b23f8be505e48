"""An exported model answers like the trained model after it was loaded again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from saman.trainers.export import model_files
from saman.trainers.keras_compat import keras, tf

pytestmark = pytest.mark.tensorflow
VALUES = np.random.default_rng(2).normal(size=(5, 3)).astype("float32")


def _model() -> object:
    inputs = keras.Input((3,))
    return keras.Model(inputs, keras.layers.Dense(2)(keras.layers.BatchNormalization()(inputs)))


def test_the_serving_signature_takes_raw_inputs_by_name(tmp_path: Path) -> None:
    model = _model()
    spec = [tf.TensorSpec([None, 3], tf.float32, "features")]
    model_files.save_serving(
        model, tmp_path / "saved", lambda features: {"outputs": model(features / 2, training=False)}, spec
    )
    serve = model_files.load_serving(tmp_path / "saved")
    [answers] = serve({"features": tf.constant(VALUES)}).values()
    assert np.allclose(answers, model(VALUES / 2, training=False), atol=1e-6)


def test_the_keras_file_is_the_model(tmp_path: Path) -> None:
    model = _model()
    model_files.save_keras_file(model, tmp_path / "model.keras")
    loaded = model_files.load_keras_file(tmp_path / "model.keras")
    assert np.allclose(loaded(VALUES, training=False), model(VALUES, training=False), atol=1e-6)
