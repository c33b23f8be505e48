"""A saved model answers by names: the first output under the name of a single output, the others under their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from saman.trainers.convert.predict import caller, output_names, serving  # noqa: E402

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


def test_every_output_answers_by_its_name(tmp_path: Path) -> None:
    several = save(tmp_path / "several", "outputs", "digit", "angle")
    answers = caller(several)({"inputs": np.ones((3, 2), "float32")})
    assert {name: found.tolist()[0] for name, found in answers.items()} == {
        "outputs": [1.0, 2.0],
        "digit": [2.0, 4.0],
        "angle": [3.0, 6.0],
    }
    function, specs = serving(several)
    assert list(specs) == ["inputs"] and output_names(function) == ["outputs", "angle", "digit"]
    alone = caller(save(tmp_path / "alone", "digit"))({"inputs": np.ones((3, 2), "float32")})
    assert set(alone) == {"outputs"}
    with pytest.raises(ValueError, match="which is the first"):
        serving(save(tmp_path / "foreign", "digit", "angle"))
