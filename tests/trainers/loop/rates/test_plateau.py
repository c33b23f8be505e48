"""The rate by a metric: what Keras' ReduceLROnPlateau would do, whenever the training is interrupted."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from saman.configs.schemas.learning.plateau import ReduceOnPlateau
from saman.runs.checkpoints import TrainingPosition
from saman.runs.checkpoints.position_text import position_text, read_position
from saman.trainers.loop.rates.plateau import judge, reduced

SETTINGS: list[dict[str, Any]] = [
    {},
    {"patience": 1},
    {"patience": 2, "cooldown": 3, "factor": 0.5},
    {"patience": 1, "cooldown": 1, "factor": 0.3, "min_rate": 2e-3},
    {"patience": 3, "min_delta": 0.2, "goal": "maximize"},
]


def rates_of_keras(values: list[float], settings: dict[str, Any], rate: float) -> list[float]:
    """The rate after each epoch, by Keras' own callback."""
    from saman.trainers.keras_compat import keras

    names = {"min_rate": "min_lr"}
    modes = {"goal": {"mode": "max"}}
    args: dict[str, Any] = {"monitor": "val_loss"}
    for key, value in settings.items():
        args |= modes.get(key, {names.get(key, key): value})
    callback = keras.callbacks.ReduceLROnPlateau(**args)
    optimizer = keras.optimizers.SGD(rate)
    callback.set_model(SimpleNamespace(optimizer=optimizer))
    callback.on_train_begin({})
    found = []
    for epoch, value in enumerate(values):
        callback.on_epoch_end(epoch, {"val_loss": value})
        found.append(float(np.asarray(optimizer.learning_rate)))
    return found


@pytest.mark.keras(3)
@pytest.mark.parametrize("settings", SETTINGS)
def test_the_rate_is_that_of_keras_also_when_every_epoch_is_resumed(settings: dict[str, Any]) -> None:
    values = [float(value) for value in np.round(np.random.default_rng(5).normal(size=60).cumsum() / 3, 3)]
    spec, position, found = ReduceOnPlateau(**settings), TrainingPosition(), []
    for value in values:
        position = judge(read_position(position_text(position)), spec, value, 0.1)
        found.append(reduced(0.1, position, spec))
    assert found == pytest.approx(rates_of_keras(values, settings, 0.1), rel=1e-5)
    assert len(set(found)) > 1


def test_a_schedule_goes_on_beside_the_factors() -> None:
    spec, position = ReduceOnPlateau(min_rate=0.01), TrainingPosition(rate_scale=0.5)
    assert [reduced(rate, position, spec) for rate in (0.2, 0.01, 0.001)] == [0.1, 0.01, 0.001]
    assert reduced(0.2, position, None) == 0.2
