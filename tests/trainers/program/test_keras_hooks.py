"""The private parts of Keras 2 and Keras 3 on which saman relies exist and behave as assumed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from saman.configs.schemas.training import Adam, AdamW, LambSettings, Sgd
from saman.trainers import keras_compat
from saman.trainers.keras_compat import keras, tf
from saman.trainers.program import optimizers
from saman.trainers.program.loss_scale import GROW_AFTER, LossScale
from saman.trainers.program.micro_batches import derive_seed
from saman.trainers.program.objective import Objective

pytestmark = pytest.mark.tensorflow
SPECS: list[Any] = [
    Sgd(name="sgd", momentum=0.9),
    Adam(name="adam"),
    AdamW(name="adamw", weight_decay=0.1),
    LambSettings(name="lamb", weight_decay=0.1),
]


@pytest.fixture(autouse=True)
def _fresh() -> None:
    keras_compat.start_session(0, "float32")


def dropping() -> Any:
    inputs = keras.Input((50,))
    x = keras.layers.BatchNormalization(momentum=0.5)(inputs)
    x = keras.layers.Dropout(0.5)(keras.layers.Dropout(0.5)(x))
    return keras.Model(inputs, keras.layers.Dense(3, trainable=False)(x))


def passed(model: Any, inputs: np.ndarray, step: int, number: int) -> tuple[np.ndarray, list[np.ndarray]]:
    sources = range(len(keras_compat.random_sources(model)))

    @tf.function
    def run(values: Any) -> Any:
        seeds = [derive_seed(1, step, number, layer) for layer in sources]
        found = keras_compat.forward(model, values, seeds)
        return found.outputs, found.moved

    outputs, moved = run(tf.constant(inputs))
    return outputs.numpy(), [move.numpy() for move in moved]


def test_a_forward_pass_draws_from_its_seeds_alone_and_changes_no_variable() -> None:
    model = dropping()
    inputs = np.random.default_rng(0).normal(2.0, 1.0, (8, 50)).astype("float32")
    before = [keras_compat.as_array(variable).copy() for variable in model.variables]
    first, moved = passed(model, inputs, 1, 2)
    assert (first == passed(model, inputs, 1, 2)[0]).all()
    assert not np.allclose(first, passed(model, inputs, 1, 3)[0])
    assert not np.allclose(first, passed(model, inputs, 2, 2)[0])
    assert all(
        (old == keras_compat.as_array(variable)).all() for old, variable in zip(before, model.variables, strict=True)
    )
    assert len(moved) == 2  # mean and variance; not the frozen layer's
    assert moved[0] == pytest.approx(0.5 * inputs.mean(0), rel=1e-4)


def test_two_dropouts_of_one_pass_drop_different_entries() -> None:
    inputs = keras.Input((400,))
    model = keras.Model(inputs, [keras.layers.Dropout(0.5)(inputs), keras.layers.Dropout(0.5)(inputs)])
    seeds = [derive_seed(0, 0, 0, layer) for layer in range(2)]
    first, other = keras_compat.forward(model, tf.ones((1, 400)), seeds).outputs
    assert not np.array_equal(first.numpy(), other.numpy())


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_an_optimiser_neither_sums_gradients_nor_hides_state(spec: Any) -> None:
    devices = tf.config.list_logical_devices("CPU")[:1]
    strategy = tf.distribute.MirroredStrategy([device.name for device in devices])
    with strategy.scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        optimizer = optimizers.build(spec)
        keras_compat.build_optimizer(optimizer, model.trainable_variables)
    reduced = []
    extended = type(strategy.extended)
    original = extended._replica_ctx_all_reduce if hasattr(extended, "_replica_ctx_all_reduce") else None

    def noted(*arguments: Any, **options: Any) -> Any:
        reduced.append(arguments)
        assert original is not None
        return original(*arguments, **options)

    if original is not None:
        extended._replica_ctx_all_reduce = noted
    try:
        keras_compat.rate_variable(optimizer).assign(0.1)
        gradients = [tf.ones(variable.shape) for variable in model.trainable_variables]
        strategy.run(lambda: keras_compat.apply(optimizer, gradients, model.trainable_variables))
    finally:
        if original is not None:
            extended._replica_ctx_all_reduce = original
    assert not reduced
    state = keras_compat.optimizer_state(optimizer, model.trainable_variables)
    slots = 1 if spec.name == "sgd" else 2
    assert len(state) == 1 + slots * 2
    assert int(keras_compat.as_array(state["iterations"])) == 1


def test_lamb_is_the_papers() -> None:
    optimizer = optimizers.build(LambSettings(name="lamb", weight_decay=0.1, epsilon=1e-6))
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, use_bias=False)])
    keras_compat.build_optimizer(optimizer, model.trainable_variables)
    keras_compat.rate_variable(optimizer).assign(0.01)
    weight = keras_compat.as_array(model.weights[0]).astype("f8")
    m, v = np.zeros_like(weight), np.zeros_like(weight)
    for step in range(1, 4):
        gradient = np.full_like(weight, 0.3 / step)
        keras_compat.apply(optimizer, [tf.constant(gradient, tf.float32)], model.trainable_variables)
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        update = (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-6) + 0.1 * weight
        weight = weight - 0.01 * np.linalg.norm(weight) / np.linalg.norm(update) * update
    assert keras_compat.as_array(model.weights[0]) == pytest.approx(weight, rel=1e-4)


def test_the_loss_scale_halves_on_overflow_and_doubles_after_many_finite_steps() -> None:
    scale = LossScale("mixed_float16")
    start = float(scale.value.numpy())
    scale.adjust(tf.constant(False))
    assert float(scale.value.numpy()) == start / 2
    state = {**scale.state(), "loss_scale/finite_steps": np.int64(GROW_AFTER - 1)}
    other = LossScale("mixed_float16")
    other.restore(state)
    other.adjust(tf.constant(True))
    assert float(other.value.numpy()) == start and int(other.state()["loss_scale/finite_steps"]) == 0


@pytest.mark.parametrize(
    ("loss", "labels", "outputs", "losses", "correct"),
    [
        ("sparse_categorical_crossentropy", [[1], [0]], [[0.2, 0.8], [0.4, 0.6]], -np.log([0.8, 0.4]), [1, 0]),
        ("categorical_crossentropy", [[0.0, 1], [1, 0]], [[0.2, 0.8], [0.4, 0.6]], -np.log([0.8, 0.4]), [1, 0]),
        ("binary_crossentropy", [1, 0], [[0.8], [0.6]], -np.log([0.8, 0.4]), [1, 0]),
        ("mean_squared_error", [1.0, 0.0], [[0.5], [2.0]], [0.25, 4.0], None),
    ],
)
def test_losses_are_per_example_and_n_and_n_by_1_labels_mean_the_same(
    loss: str, labels: Any, outputs: Any, losses: Any, correct: Any
) -> None:
    objective = Objective(loss)
    given = tf.constant(outputs, tf.float32)
    fitted = objective.fit_labels(tf.constant(labels), given)
    assert objective.losses(fitted, given).numpy() == pytest.approx(np.asarray(losses), rel=1e-5)
    if correct is not None:
        assert objective.correct(fitted, given).numpy().tolist() == correct
