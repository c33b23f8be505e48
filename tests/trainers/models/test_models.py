"""Shipped models build, and refuse unsuitable inputs with the reason; a user's function is checked before its call."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from saman.configs.errors import UserError
from saman.configs.schemas.experiment import Model

pytest.importorskip("tensorflow")

from saman.trainers import models

pytestmark = pytest.mark.tensorflow


@pytest.mark.parametrize(
    ("build", "shape", "args"),
    [
        ("mlp", (8, 8), {"dropout": 0.1}),
        ("cnn", (8, 8), {"batch_norm": True}),
        ("cnn", (9, 9, 3), {"dropout": 0.5}),
        ("transformer", (12,), {"dropout": 0.1}),
        ("mobilenet_v2", (32, 32, 3), {"classes": 10}),
        ("resnet50", (32, 32, 3), {"classes": 10}),
    ],
)
def test_every_shipped_kind_of_model_gives_probabilities(build: str, shape: tuple[int, ...], args: Any) -> None:
    model = models.build(Model(build=build, args=args), shape)
    outputs = np.asarray(model(np.zeros((2, *shape), "int32" if build == "transformer" else "float32")))
    assert outputs.shape == (2, 10) and outputs.sum(-1) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("build", "shape"), [("cnn", (8,)), ("transformer", (8, 8)), ("resnet50", (8, 8, 3)), ("mlp", {"a": (3,)})]
)
def test_a_shape_that_does_not_suit_a_model_is_said(build: str, shape: Any) -> None:
    with pytest.raises(UserError, match=r"model\.build: .*" + build):
        models.build(Model(build=build), shape)


def test_a_users_function_is_called_with_what_it_takes_and_mistakes_are_named() -> None:
    assert models.build(Model(build="training_cases:convolutional"), (6, 6, 1)).count_params() > 0
    for name, problem in [("missing:f", "no module"), ("training_cases:nothing", "no function 'nothing'")]:
        with pytest.raises(UserError, match=problem):
            models.build(Model(build=name), (3,))
    with pytest.raises(UserError, match="cannot be called with"):
        models.build(Model(build="training_cases:two_inputs", args={"width": 3}), (3,))
