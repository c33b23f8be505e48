"""Of several outputs, formats and batch inference take the first, which has the name of a single output."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from saman.trainers.convert.predict import caller, serving  # noqa: E402

pytestmark = pytest.mark.tensorflow


def save(folder: Path, *names: str) -> Path:
    module = tf.Module()
    module.scale = tf.Variable([1.0, 2.0])
    serve = tf.function(
        lambda inputs: {name: inputs * (number + 1.0) * module.scale for number, name in enumerate(names)},
        input_signature=[tf.TensorSpec([None, 2], tf.float32, "inputs")],
    )
    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve})
    return folder


def test_the_first_output_answers_and_others_are_left_out(tmp_path: Path) -> None:
    several = save(tmp_path / "several", "outputs", "digit", "angle")
    values = np.ones((3, 2), "float32")
    assert caller(several)(values).tolist() == [[1.0, 2.0]] * 3
    assert set(serving(several)[0].structured_outputs) == {"outputs"}
    with pytest.raises(ValueError, match="1 inputs and 2 outputs"):
        serving(save(tmp_path / "foreign", "digit", "angle"))
