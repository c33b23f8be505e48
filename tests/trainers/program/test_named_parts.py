"""Losses, metrics, optimisers, schedules by name or function: Keras' own values, however examples are divided."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from saman.configs.errors import UserError
from saman.configs.schemas.learning import keras_names
from saman.configs.schemas.training import Train
from saman.trainers import Context, keras_compat
from saman.trainers.keras_compat import KERAS_2, keras, tf
from saman.trainers.loop import callbacks
from saman.trainers.loop.rates import custom
from saman.trainers.models.layers import freeze, rate_factors
from saman.trainers.program import optimizers
from saman.trainers.program.objective import Objective

pytestmark = pytest.mark.tensorflow
RNG = np.random.default_rng(5)
CONTEXT = Context(seed=1, epoch=0, rank=0, size=1)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    keras_compat.start_session(0, "float32")


@pytest.fixture(autouse=True)
def theirs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A user's module."""
    module: Any = types.ModuleType("theirs")
    module.absolute = lambda labels, outputs, power=1: tf.reduce_mean(tf.abs(labels - outputs) ** power, -1)
    module.scalar = lambda labels, outputs: tf.reduce_mean(tf.abs(labels - outputs))
    module.seen = lambda labels, outputs, ctx: tf.zeros(tf.shape(labels)[:1]) + ctx.seed
    module.squares = lambda: keras.losses.MeanSquaredError()
    module.half = lambda step, steps: 1.0 if step < steps / 2 else 0.5
    module.negative = lambda step: -1.0
    module.stepwise = type("Stepwise", (keras.callbacks.Callback,), {"on_train_batch_end": lambda *_: None})
    module.momentum = lambda: keras.optimizers.SGD(0.0, momentum=0.9)
    monkeypatch.setitem(sys.modules, "theirs", module)
    yield module


def train(**values: Any) -> Train:
    return Train.model_validate({"global_batch_size": 4, **values})


def objective(**values: Any) -> Objective:
    return Objective.of(train(**values), CONTEXT)


def summed(of: Objective, labels: Any, outputs: Any, parts: int) -> np.ndarray:
    """The sums of an objective over interleaved parts of the examples, as ranks and micro-batches compute them."""
    pieces = ((labels[at::parts], outputs[at::parts]) for at in range(parts))
    return np.sum([of.measure(tf.constant(a), tf.constant(b)).vector().numpy() for a, b in pieces], axis=0)


def probabilities(examples: int, classes: int) -> np.ndarray:
    drawn = RNG.random((examples, classes)).astype("f4") + 0.05
    return drawn / drawn.sum(-1, keepdims=True)


CLASSES = RNG.integers(0, 4, 37).astype("i4")
SCORES = probabilities(37, 4)


@pytest.mark.keras(3)  # states of metrics
@pytest.mark.parametrize("parts", [1, 4])
def test_metrics_are_keras_own_however_the_examples_are_divided(parts: int) -> None:
    asked: list[Any] = ["auc", "precision", {"name": "f1_score", "args": {"average": "macro"}}]
    asked += [{"name": "SparseTopKCategoricalAccuracy", "args": {"k": 2}, "as": "top_2"}, "mean_absolute_error"]
    of = objective(metrics=asked)
    of.prepare(tf.TensorSpec([None], tf.int32), tf.TensorSpec([None, 4], tf.float32))
    found = of.results(summed(of, CLASSES, SCORES, parts))
    rows = np.eye(4, dtype="f4")[CLASSES]
    metrics = keras.metrics
    wanted = {
        "auc": (metrics.AUC(), rows),
        "precision": (metrics.Precision(), rows),
        "f1_score": (metrics.F1Score(average="macro"), rows),
        "top_2": (metrics.SparseTopKCategoricalAccuracy(k=2), CLASSES),
        "mean_absolute_error": (metrics.MeanAbsoluteError(), rows),
        "accuracy": (metrics.SparseCategoricalAccuracy(), CLASSES),
    }
    for name, (metric, labels) in wanted.items():
        metric.update_state(labels, SCORES)
        assert found[name] == pytest.approx(float(metric.result()), rel=1e-6), name


@pytest.mark.keras(3)  # states of metrics
def test_a_metric_that_does_not_add_up_is_refused(theirs: Any) -> None:
    class Largest(keras.metrics.Metric):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(name="largest")
            self.value = self.add_weight(shape=(), initializer="zeros", name="value")

        def update_state(self, labels: Any, outputs: Any, sample_weight: Any = None) -> None:
            self.value.assign(keras.ops.maximum(self.value, keras.ops.max(outputs)))

        def result(self) -> Any:
            return self.value

    theirs.largest = Largest
    for asked, problem in [("theirs:largest", "does not add up"), ("f1_score", "gives .* numbers")]:
        of = objective(metrics=[asked])
        with pytest.raises(UserError, match=problem):
            of.prepare(tf.TensorSpec([None], tf.int32), tf.TensorSpec([None, 4], tf.float32))


@pytest.mark.keras(2)
def test_keras_2_sums_means_and_refuses_other_states() -> None:
    of = objective(metrics=["mean_absolute_error"])
    expected = np.abs(np.eye(4)[CLASSES] - SCORES).mean()
    assert of.results(summed(of, CLASSES, SCORES, 3))["mean_absolute_error"] == pytest.approx(expected, rel=1e-5)
    with pytest.raises(UserError, match="auc cannot be summed over ranks with Keras 2"):
        objective(metrics=["auc"])


def test_a_users_function_is_a_loss_and_a_metric() -> None:
    labels, outputs = RNG.random((7, 3)).astype("f4"), RNG.random((7, 3)).astype("f4")
    values: dict[str, Any] = {"loss": {"name": "theirs:absolute", "args": {"power": 2}}}
    of = objective(**values, metrics=["theirs:absolute", {"name": "theirs:seen", "as": "seed"}])
    found = of.results(summed(of, labels, outputs, 2))
    difference = np.abs(labels - outputs)
    wanted = {"loss": (difference**2).mean(), "absolute": difference.mean(), "seed": 1.0}
    assert found == pytest.approx(wanted, rel=1e-5)
    assert objective(loss="theirs:squares").losses(tf.constant(labels), tf.constant(outputs)).shape == (7,)
    with pytest.raises(UserError, match="a single number for a batch"):
        objective(loss="theirs:scalar").losses(tf.constant(labels), tf.constant(outputs))


def test_smoothed_labels_give_the_loss_of_smoothed_rows() -> None:
    rows = np.eye(4, dtype="f4")[CLASSES] * 0.9 + 0.1 / 4
    expected = -(rows * np.log(SCORES)).sum(-1)
    for loss, labels in [
        ("sparse_categorical_crossentropy", CLASSES),
        ("categorical_crossentropy", np.eye(4, dtype="f4")[CLASSES]),
    ]:
        of = objective(loss=loss, label_smoothing=0.1)
        assert of.losses(tf.constant(labels), tf.constant(SCORES)).numpy() == pytest.approx(expected, rel=1e-4)


def test_every_name_that_the_schema_knows_is_one_of_keras() -> None:
    for name in keras_names.LOSSES:
        function, thirds = objective(loss=name).function, tf.ones((2, 3)) / 3
        assert function is not None
        labels = tf.zeros((2,), tf.int32) if "sparse" in name else thirds
        assert function(labels, thirds).shape[0] == 2, name
    assert all(hasattr(keras.optimizers.schedules, kind) for kind in keras_names.SCHEDULES.values())
    assert KERAS_2 or all(hasattr(keras.optimizers, kind) for kind in keras_names.OPTIMIZERS.values())
    assert KERAS_2 or all(hasattr(keras.metrics, kind) for kind in keras_names.METRICS.values())
    assert all(hasattr(keras.callbacks, name) for name in keras_names.CALLBACKS)


@pytest.mark.parametrize("spec", [*keras_names.OPTIMIZERS, "theirs:momentum"])
def test_every_optimiser_goes_on_from_its_state(spec: str) -> None:
    refused = {"nadam": "nadam of Keras 2 cannot be resumed", "muon": "this Keras has no Muon"} if KERAS_2 else {}
    if spec in refused:
        with pytest.raises(UserError, match=refused[spec]):
            optimizers.build(train(optimizer=spec).optimizer, CONTEXT)
        return

    def fresh() -> tuple[Any, Any]:
        variable = keras_compat.keras.layers.Dense(2, kernel_initializer="ones", use_bias=False)
        variable.build((None, 3))
        optimizer = optimizers.build(train(optimizer=spec).optimizer, CONTEXT)
        keras_compat.build_optimizer(optimizer, variable.trainable_variables)
        return variable.trainable_variables, optimizer

    def step(variables: Any, optimizer: Any, number: int) -> None:
        keras_compat.rate_variable(optimizer).assign(0.1)
        keras_compat.apply(optimizer, [tf.fill((3, 2), 0.5 / number)], variables)

    variables, optimizer = fresh()
    for number in (1, 2):
        step(variables, optimizer, number)
    kept = {
        name: keras_compat.as_array(each).copy()
        for name, each in keras_compat.optimizer_state(optimizer, variables).items()
    }
    weights = keras_compat.as_array(variables[0]).copy()
    step(variables, optimizer, 3)
    others, again = fresh()
    keras_compat.tensor_of(others[0]).assign(weights)
    for name, each in keras_compat.optimizer_state(again, others).items():
        keras_compat.tensor_of(each).assign(kept[name])
    step(others, again, 3)
    assert (keras_compat.as_array(others[0]) == keras_compat.as_array(variables[0])).all()
    assert not (keras_compat.as_array(variables[0]) == weights).all()


def test_schedules_by_name_or_function_are_factors_of_the_rate() -> None:
    def factors(schedule: Any) -> list[float]:
        spec = train(learning_rate={"base": 0.1, "schedule": schedule}).learning_rate.schedule
        factor = custom.factor_of(spec, 4, 2, CONTEXT)
        assert factor is not None
        return [factor(step) for step in range(4)]

    assert factors("theirs:half") == [1.0, 1.0, 0.5, 0.5]
    linear = {"name": "polynomial_decay", "args": {"decay_steps": 4, "end_learning_rate": 0.0}}
    assert factors(linear) == pytest.approx([1.0, 0.75, 0.5, 0.25])
    with pytest.raises(UserError, match="returned -1.0 for step 0"):
        factors("theirs:negative")


def test_layers_freeze_and_get_rates_by_patterns() -> None:
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(4, name="base_1")(keras.layers.Dense(4, name="base_0")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2, name="head")(hidden))
    freeze(model, ["base_0"])
    names = [keras_compat.name_of(variable) for variable in model.trainable_variables]
    assert names == ["base_1/kernel", "base_1/bias", "head/kernel", "head/bias"]
    assert rate_factors({"*": 0.1, "head/*": 2.0}, model.trainable_variables) == {0: 0.1, 1: 0.1, 2: 2.0, 3: 2.0}
    with pytest.raises(UserError, match="'hed' fits no layer"):
        freeze(model, ["hed"])
    with pytest.raises(UserError, match="'bas/' fits no weight"):
        rate_factors({"bas/": 1.0}, model.trainable_variables)


def test_a_callback_that_wants_every_step_is_refused() -> None:
    specs = train(callbacks=["theirs:stepwise"]).callbacks
    with pytest.raises(UserError, match="has on_train_batch_end, which is never called"):
        callbacks.build(specs, None, CONTEXT, 1, 1)
