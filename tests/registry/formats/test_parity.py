"""Parity of a conversion without a converter: refusals, accuracy, and the difference that the trainer recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from registry_kit import published

from saman.registry.evaluation.answers import SampleAnswers
from saman.registry.formats.conversion import _recorded_difference
from saman.registry.formats.parity import ConversionRefusal, ConvertedModel, Parity, measure_parity, require_parity

LABELS = np.arange(10).repeat(5)
RIGHT = np.eye(10, dtype="float32")[LABELS]
MODEL = ConvertedModel(format="onnx", converter="pretended", bytes=10, version_bytes=20)


def _measure(values: Any) -> Parity:
    return measure_parity(MODEL, "pretended", SampleAnswers(values, 1.0), SampleAnswers(RIGHT, 2.0), LABELS)


def test_equal_answers_have_no_difference_and_equal_accuracy() -> None:
    parity = _measure(RIGHT)
    assert (parity.max_difference, parity.accuracy, parity.version_accuracy) == (0, 1, 1)
    assert (parity.latency_milliseconds, parity.version_latency_milliseconds) == (1, 2)
    require_parity(parity, 0.0)


def test_a_changed_accuracy_is_refused_beyond_the_tolerance() -> None:
    wrong = RIGHT.copy()
    wrong[0] = np.roll(wrong[0], 1)
    parity = _measure(wrong)
    assert parity.accuracy == pytest.approx(0.98)
    require_parity(parity, 0.02)
    with pytest.raises(ConversionRefusal):
        require_parity(parity, 0.01)


@pytest.mark.parametrize("values", [RIGHT[:, :5], np.full_like(RIGHT, np.nan)], ids=["shape", "not finite"])
def test_answers_of_another_shape_or_not_finite_are_refused(values: Any) -> None:
    with pytest.raises(ConversionRefusal):
        _measure(values)


@pytest.mark.parametrize(
    ("normalization", "expected"),
    [
        ("none", None),
        ("saved_model", 0.25),
        ("inside the SavedModel; model.keras takes inputs that are already normalised", 0.25),  # schema 1
    ],
)
def test_a_field_decides_whether_the_keras_file_takes_raw_inputs(
    tmp_path: Path, normalization: str, expected: float | None
) -> None:
    differences = {"saved_model": 0.0, "keras": 0.25}
    version = published(tmp_path, normalization=normalization, max_difference=differences)
    assert _recorded_difference(version.path) == expected


def test_a_manifest_that_holds_the_former_sentence_is_still_understood(tmp_path: Path) -> None:
    version = published(tmp_path, max_difference={"keras": 0.25})
    file = version.path / "assets.extra/saman.json"
    about = json.loads(file.read_text())
    about["export"]["normalization"] = "inside the SavedModel; model.keras takes inputs that are already normalised"
    file.write_text(json.dumps(about))
    assert _recorded_difference(version.path) == 0.25
