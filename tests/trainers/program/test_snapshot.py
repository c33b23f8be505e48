"""A snapshot holds the values of its moment, whatever updates the variables afterwards, and copies nothing at once."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from saman.configs.schemas.training import Train
from saman.runs.checkpoints.shares import join
from saman.trainers import keras_compat
from saman.trainers.keras_compat import keras, tf
from saman.trainers.program import optimizers
from saman.trainers.program.snapshot import SharedSnapshot, VariableSnapshot, array_sizes

pytestmark = pytest.mark.tensorflow


def model() -> Any:
    layers = keras.layers
    return keras.Sequential([keras.Input((6,)), layers.Dense(50), layers.BatchNormalization(), layers.Dense(3)])


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "lamb"])
def test_no_optimiser_changes_a_snapshot(name: str) -> None:
    built = model()
    spec = {"name": name, "momentum": 0.9} if name == "sgd" else {"name": name}
    optimizer = optimizers.build(Train.model_validate({"optimizer": spec, "global_batch_size": 8}).optimizer)
    keras_compat.build_optimizer(optimizer, built.trainable_variables)
    state = keras_compat.optimizer_state(optimizer, built.trainable_variables)
    variables = {
        **{weight.path if hasattr(weight, "path") else weight.name: weight for weight in built.weights},
        **state,
    }

    def update() -> None:
        gradients = [tf.ones_like(keras_compat.tensor_of(variable)) for variable in built.trainable_variables]
        keras_compat.apply(optimizer, gradients, built.trainable_variables)
        for statistic in keras_compat.moving_statistics(built):
            keras_compat.tensor_of(statistic).assign_add(tf.ones_like(keras_compat.tensor_of(statistic)))

    keras_compat.rate_variable(optimizer).assign(0.1)
    step = tf.function(update, autograph=False)
    step()
    take = VariableSnapshot(variables)
    snapshot = take()
    then = {key: np.array(value) for key, value in snapshot.items()}
    assert array_sizes(variables) == {key: (value.size, value.itemsize) for key, value in then.items()}
    for _ in range(3):
        step()
    assert all((snapshot[key] == value).all() for key, value in then.items())
    changed = [key for key, value in take().items() if (value != then[key]).any()]
    assert len(changed) >= len(built.trainable_variables)  # the test shows nothing if nothing moves


def test_a_snapshot_shares_its_memory_with_the_variable_and_leaves_it_when_it_goes() -> None:
    variable = tf.Variable(tf.ones([1000]))
    take = VariableSnapshot({"w": variable})
    first, second = take(), take()
    assert np.shares_memory(first["w"], second["w"])  # no copy
    gone = weakref.ref(first["w"])
    first.clear()
    second.clear()
    gc.collect()
    assert gone() is None
    variable.assign_add(tf.ones([1000]))
    assert take()["w"][0] == 2


def test_a_snapshot_of_mirrored_variables_is_that_of_the_first_replica() -> None:
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        variable = tf.Variable([1.0, 2.0])
    assert VariableSnapshot({"w": variable})()["w"].tolist() == [1.0, 2.0]


def test_the_shares_of_all_processes_are_the_whole_state_and_equal_in_bytes() -> None:
    rng = np.random.default_rng(1)
    values = {"embedding": rng.normal(size=(900, 1000)), "w": rng.normal(size=(1000, 700)), "steps": np.int64(7)}
    variables = {name: tf.Variable(value) for name, value in values.items()}
    taken = [SharedSnapshot(variables, process, 3) for process in range(3)]
    assert [(snapshot.part, snapshot.parts) for snapshot in taken] == [(0, 3), (1, 3), (2, 3)]
    shares = [snapshot() for snapshot in taken]
    filled = [sum(array.nbytes for array in share.values()) for share in shares]
    assert max(filled) - min(filled) <= 16
    whole = join({name: array for share in shares for name, array in share.items()}, taken[0].divided)
    assert whole.keys() == values.keys()
    assert all((whole[name] == value).all() and whole[name].shape == value.shape for name, value in values.items())
