"""A warm start takes the weights that a model's names ask for, whatever numbers Keras gave its layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saman.configs.errors import UserError
from saman.configs.schemas.learning.weights import WarmStart

pytest.importorskip("tensorflow")

from saman.trainers.keras_compat import keras
from saman.trainers.models.warm_start import load_into

pytestmark = [pytest.mark.tensorflow, pytest.mark.keras(3)]


def built(head: int = 2) -> Any:
    """Three layers of the same shape without names of their own, and a head with a name."""
    layers = [keras.layers.Dense(3, kernel_initializer="random_normal") for _ in range(3)]
    return keras.Sequential(
        [keras.Input((3,)), *layers, keras.layers.Dense(head, bias_initializer="random_normal", name="head")]
    )


@pytest.fixture
def source(tmp_path: Path) -> tuple[Path, list[np.ndarray]]:
    """A file of such a model, and its weights."""
    model = built()
    model.save(tmp_path / "source.keras")
    return tmp_path / "source.keras", model.get_weights()


def test_layers_without_names_take_their_weights_in_their_order(source: tuple[Path, list[np.ndarray]]) -> None:
    file, weights = source
    for first in (0, 1):  # a model built later in this process has higher numbers, and one of them is in the file
        if first:
            keras.utils.clear_session()
            keras.layers.Dense(1)
        model = built()
        load_into(model, WarmStart.model_validate({"from": str(file)}))
        assert all((mine == theirs).all() for mine, theirs in zip(model.get_weights(), weights, strict=True))


def test_a_weight_of_another_shape_is_an_error_or_kept_as_it_is(source: tuple[Path, list[np.ndarray]]) -> None:
    file, weights = source
    keras.utils.clear_session()
    built()  # the numbers of this process differ from those of the file
    model = built(head=5)
    before = model.get_layer("head").get_weights()
    with pytest.raises(UserError) as refused:
        load_into(model, WarmStart.model_validate({"from": str(file)}))
    assert refused.value.where == "train.warm_start"
    load_into(model, WarmStart.model_validate({"from": str(file), "missing": "keep"}))
    assert all((mine == old).all() for mine, old in zip(model.get_layer("head").get_weights(), before, strict=True))
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="head"), keras.layers.Dense(7)])
    only = {"from": str(file), "only": ["*/head/bias"]}
    load_into(other, WarmStart.model_validate(only))
    assert (other.get_layer("head").get_weights()[1] == weights[-1]).all()
    taken = zip(model.get_weights()[:6], weights[:6], strict=True)
    assert all((mine == theirs).all() for mine, theirs in taken)
