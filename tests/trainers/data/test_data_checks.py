"""Problems of data are found before training, and sound data have none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saman.configs.errors import UserError
from saman.trainers.data.checks import PartSample, find_problems
from saman.trainers.data.drift import find_drift, read_reference

RNG = np.random.default_rng(0)


def sample(inputs: Any = None, labels: Any = None, examples: int = 100) -> PartSample:
    made = RNG.normal(size=(examples, 4)) if inputs is None else inputs
    return PartSample({"inputs": np.asarray(made)}, np.arange(len(made)) % 3 if labels is None else np.asarray(labels))


def found(train: PartSample, **others: PartSample) -> list[tuple[str, str]]:
    return [(problem.check, problem.text) for problem in find_problems({"train": train, **others})]


def test_sound_data_have_no_problems() -> None:
    images = RNG.integers(0, 2, (50, 5, 5, 1))
    images[:, 0] = 0  # a constant border is usual in images
    assert found(sample(), validation=sample(), test=sample()) == []
    assert found(sample(images)) == []
    assert found(sample(labels=RNG.normal(size=100))) == [], "labels of a regression are no classes"


def test_missing_and_infinite_values_are_counted_by_column() -> None:
    values = RNG.normal(size=(100, 4))
    values[:7, 2], values[3, 0] = np.nan, np.inf
    [(check, text)] = found(sample(), validation=sample(values))
    assert check == "missing" and text.startswith("7 of 100 validation examples") and "columns 0, 2" in text


def test_constant_columns_and_constant_inputs_are_named() -> None:
    values = RNG.normal(size=(100, 4))
    values[:, 1] = 5
    assert found(sample(values)) == [("constant", "inputs: columns 1 are the same in all training examples looked at")]
    assert [check for check, _ in found(sample(np.ones((9, 3, 3))))] == ["constant"]


def test_inputs_that_stand_in_two_parts_are_counted() -> None:
    train, test = sample(), sample()
    leaked = sample(np.concatenate([train.inputs["inputs"][:6], RNG.normal(size=(10, 4))]), np.arange(16) % 2)
    [(check, text)] = found(train, validation=leaked, test=test)
    assert check == "duplicates" and text.startswith("6 of 16 validation examples") and text.endswith("train examples")


def test_texts_are_compared_by_their_characters() -> None:
    def texts(*words: str) -> PartSample:
        return sample(np.array([word.encode() for word in words], object), [0] * len(words))

    problems = found(texts("one", "two" * 9), validation=texts("".join(["o", "ne"]), "three"))
    assert "1 of 2 validation" in next(text for check, text in problems if check == "duplicates")


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ([1] * 100, "have the label 1"),
        ([0] * 97 + [1] * 3, "class 0 has 32 times as many training examples as class 1"),
        ([-1] + [0, 1, 2] * 33, "negative label -1"),
    ],
)
def test_labels_of_a_single_class_unequal_classes_and_negative_labels(labels: list[int], text: str) -> None:
    problems = found(sample(labels=labels))
    assert any(check == "labels" and text in said for check, said in problems)


def test_labels_that_training_lacks_are_named_in_one_hot_rows_too() -> None:
    problems = found(sample(), validation=sample(labels=np.eye(5)[np.arange(100) % 5]))
    assert [check for check, _ in problems] == ["labels"] and problems[0][1].endswith(": 3, 4")


REFERENCE = {
    "signature": {"inputs": {"inputs": {"dtype": "float64", "shape": [None, 4]}}},
    "statistics": {
        "inputs": [{"per": "element", "features": 4, "quantiles": {"0": [-5.0] * 4, "1": [5.0] * 4}}],
        "labels": {"counts": {"0": 5, "1": 5, "2": 5}},
    },
}


def test_drift_from_a_published_version_is_found_in_type_shape_range_and_classes(tmp_path: Path) -> None:
    (tmp_path / "saman.json").write_text(json.dumps(REFERENCE))
    reference = read_reference(str(tmp_path / "saman.json"))
    wide = RNG.normal(size=(100, 4))
    wide[5, 3] = 6.5
    for changed, text in [
        (sample(RNG.normal(size=(9, 3))), "float64[3], but float64[4]"),
        (sample(RNG.normal(size=(9, 4)).astype("float32")), "float32[4], but float64[4]"),
        (sample(wide), "in features 3"),
        (sample(labels=[7] * 100), "does not have: 7"),
    ]:
        assert [(problem.check, text in problem.text) for problem in find_drift(changed, reference)] == [
            ("drift", True)
        ]
    assert list(find_drift(sample(), reference)) == []
    with pytest.raises(UserError, match="no statistics"):
        read_reference(str(tmp_path / "missing.json"))
