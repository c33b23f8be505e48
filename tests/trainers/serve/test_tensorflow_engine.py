"""The TensorFlow engine serves every signature, and turns the model's errors into messages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from saman.runs.engines.frames import INVALID_ARGUMENT, UNIMPLEMENTED
from saman.runs.engines.interface import EngineError

pytestmark = pytest.mark.tensorflow


def test_signatures_strings_and_errors(tmp_path: Path) -> None:
    from saman.trainers.keras_compat import tf
    from saman.trainers.serve.tensorflow_engine import TensorFlowEngine

    module = tf.Module()
    module.half = tf.function(lambda x: {"y": x / 2}, input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    module.upper = tf.function(
        lambda words: {"y": tf.strings.upper(words)}, input_signature=[tf.TensorSpec([None], tf.string, name="words")]
    )
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": module.half, "upper": module.upper})
    engine = TensorFlowEngine(tmp_path, threads=0)
    assert engine.run("serving_default", {"x": np.ones((3, 2), "float32")})["y"].tolist() == [[0.5, 0.5]] * 3
    words = np.array([b"a", "ä".encode()], dtype=object)
    assert engine.run("upper", {"words": words})["y"].tolist() == [b"A", "ä".encode()]
    for signature, inputs, code in (
        ("none", {"x": np.ones((1, 2), "float32")}, UNIMPLEMENTED),
        ("serving_default", {"z": np.ones((1, 2), "float32")}, INVALID_ARGUMENT),
        ("serving_default", {"x": np.ones((1, 3), "float32")}, INVALID_ARGUMENT),
    ):
        with pytest.raises(EngineError) as refusal:
            engine.run(signature, inputs)
        assert refusal.value.code == code
