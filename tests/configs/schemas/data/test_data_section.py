"""The section ``data`` refuses parts that do not fit, and old checkpoints keep what determined their examples."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from saman.configs.schemas.data.section import Data
from saman.configs.schemas.experiment import Experiment


def section(**keys: Any) -> Data:
    return Data.model_validate({"source": "digits", **keys})


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"folds": 5}, "folds and fold together"),
        ({"folds": 5, "fold": 5}, "not below folds"),
        ({"folds": 1, "fold": 0}, "greater than or equal to 2"),
        ({"validation_fraction": 0.5, "test_fraction": 0.5}, "no example for training"),
        ({"on_corrupt": "ignore"}, "'stop' or 'skip'"),
        ({"class_weights": "uneven"}, "balanced"),
        ({"class_weights": {0: -1.0}}, "greater than or equal to 0"),
        ({"augment": ["turn"]}, "flip_left_right"),
        ({"augment": [{"name": "contrast", "lower": 2.0}]}, "lower must be below upper"),
        ({"checks": {"missing": "stop"}}, "'ignore', 'warn' or 'error'"),
    ],
)
def test_keys_that_do_not_fit_are_refused(keys: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        section(**keys)


@pytest.mark.parametrize(
    ("source", "args", "problem"),
    [
        ("tfrecord", {"train": "a", "features": {"x": {"dtype": "int64"}}, "inputs": "y"}, "does not describe 'y'"),
        ("tfrecord", {"train": "a", "features": {"x": {"dtype": "image", "shape": [2, 2]}}, "inputs": "x"}, "height"),
        ("numpy", {"train": {"archive": "a.npz", "inputs": ["x", "y"]}}, "name of an array"),
        ("images", {"train": "a", "size": [3]}, "at least 2"),
        ("csv", {"train": []}, "train"),
    ],
)
def test_arguments_of_sources_that_do_not_fit_are_refused(source: str, args: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        Data.model_validate({"source": source, "args": args})


def test_a_name_or_a_reaction_alone_is_enough() -> None:
    made = section(augment=["hue", {"name": "cutout", "size": 3}], checks="error")
    assert [step.name for step in made.augment] == ["hue", "cutout"]
    assert set(made.checks.reactions().values()) == {"error"}


def test_what_determines_the_examples_is_what_old_checkpoints_hold_where_new_keys_are_unused() -> None:
    old = {"source": "digits", "args": {}, "validation_fraction": 0.1, "shuffle": True}
    assert section().determining() == old
    assert section(on_corrupt="skip", hashes="never", checks="ignore").determining() == old
    assert section(test_fraction=0.1).determining() == {**old, "test_fraction": 0.1}
    assert "class_weights" in section(class_weights="balanced").determining()


def test_test_metrics_may_decide_on_publication_but_not_on_an_early_stop() -> None:
    def experiment(**train: Any) -> Experiment:
        values = {"name": "e", "model": {"build": "mlp"}, "data": {"source": "digits", "test_fraction": 0.1}}
        publish = {"model": "m", "if": {"metric": "test_accuracy", "at_least": 0.5}}
        return Experiment.model_validate({**values, "train": {"global_batch_size": 8, **train}, "publish": publish})

    assert {"test_loss", "test_accuracy"} <= experiment().metrics()
    with pytest.raises(ValueError, match="test_loss"):
        experiment(early_stop={"metric": "test_loss"})
