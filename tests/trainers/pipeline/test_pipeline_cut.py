"""Promises of cutting: stages in order return the whole model's outputs and gradients."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from saman.configs.errors import UserError

pytest.importorskip("tensorflow")

from saman.trainers import keras_compat
from saman.trainers.keras_compat import keras, tf
from saman.trainers.models.cnn import build as cnn
from saman.trainers.models.mlp import build as mlp
from saman.trainers.models.transformer import build as transformer
from saman.trainers.pipeline.graph import graph_of
from saman.trainers.pipeline.stage import Stage, travelling_specs

pytestmark = pytest.mark.tensorflow
layers = keras.layers
Numbers = np.ndarray


@pytest.fixture(autouse=True)
def _double_precision() -> Any:
    keras_compat.start_session(11, "float64")
    yield
    keras_compat.start_session(0, "float32")


def images(*shape: int) -> Numbers:
    return np.random.default_rng(3).normal(size=(4, *shape))


def tokens(length: int = 7) -> Numbers:
    drawn = np.random.default_rng(3).integers(1, 20, size=(4, length)).astype("int32")
    drawn[1, 4:] = 0
    return drawn


def long_skips() -> tuple[Any, Numbers]:
    inputs = keras.Input((6,))
    one = layers.Dense(5, activation="tanh")(inputs)
    two = layers.Dense(5, activation="tanh")(one)
    three = layers.Dense(5, activation="tanh")(layers.Concatenate()([two, inputs]))
    four = layers.Add()([three, one])
    return keras.Model(inputs, layers.Dense(3)(layers.Concatenate()([four, inputs, two]))), images(6)


def masked() -> tuple[Any, Numbers]:
    inputs = keras.Input((7,), dtype="int32")
    embedded = layers.Embedding(20, 6, mask_zero=True)(inputs)
    wide = layers.TimeDistributed(layers.Dense(5), name="wide")(layers.Dropout(0.0)(embedded))
    return keras.Model(inputs, layers.Dense(2)(layers.LSTM(4)(wide))), tokens()


def several_outputs() -> tuple[Any, Numbers]:
    inputs = keras.Input((6,))
    sequence = layers.Reshape((3, 2))(inputs)
    outputs, state, _ = layers.LSTM(4, return_sequences=True, return_state=True)(sequence)
    flat = layers.Flatten()(outputs)
    late = layers.Dense(3)(layers.Dense(4)(flat))
    return keras.Model(inputs, {"early": layers.Dense(2)(state), "late": late}), images(6)


def nested() -> tuple[Any, Numbers]:
    inner_input = keras.Input((5,))
    inner = keras.Model(inner_input, layers.Add()([layers.Dense(5)(inner_input), inner_input]), name="inner")
    return keras.Sequential([keras.Input((5,)), layers.Dense(5), inner, keras.Sequential([layers.Dense(3)])]), images(5)


def regularised() -> tuple[Any, Numbers]:
    l2 = keras.regularizers.L2(0.1)
    stack = [layers.Dense(4, kernel_regularizer=l2, activity_regularizer=l2) for _ in range(3)]
    return keras.Sequential([keras.Input((5,)), *stack]), images(5)


MODELS: dict[str, Callable[[], tuple[Any, Numbers]]] = {
    "mlp": lambda: (mlp((6,), 3, [5, 4], 0.0), images(6)),
    "cnn": lambda: (cnn((8, 8, 2), 3, [3, 4], 5, True, 0.0), images(8, 8, 2)),
    "transformer": lambda: (transformer((7,), 3, 20, 8, 2, 2, 0.0), tokens()),
    "long skips": long_skips,
    "masks": masked,
    "several outputs": several_outputs,
    "nested": nested,
    "regularised": regularised,
}


def summed(outputs: Any) -> Any:
    parts = [tf.reduce_sum(tf.cast(tensor, tf.float64) ** 2) for tensor in tf.nest.flatten(outputs)]
    return tf.add_n(parts)


def through(parts: list[Any], inputs: Any, variables: list[Any]) -> tuple[Any, list[Any]]:
    """Return outputs and gradients of the models ``parts`` in order, with the losses that layers add."""
    with tf.GradientTape() as tape:
        passed, extra = tf.nest.map_structure(tf.constant, inputs), tf.constant(0.0, tf.float64)
        for part in parts:
            passed = part(passed, training=True)
            extra += (
                tf.add_n([tf.cast(tf.reduce_sum(loss), tf.float64) for loss in part.losses]) if part.losses else 0.0
            )
        loss = summed(passed) + extra
    watched = [keras_compat.tensor_of(variable) for variable in variables]
    return passed, tape.gradient(loss, watched, unconnected_gradients="zero")


def assert_equal(left: Any, right: Any) -> None:
    for mine, other in zip(tf.nest.flatten(left), tf.nest.flatten(right), strict=True):
        np.testing.assert_allclose(
            np.asarray(tf.convert_to_tensor(mine)), np.asarray(tf.convert_to_tensor(other)), rtol=1e-10, atol=1e-12
        )


def stages(graph: Any, cuts: list[int]) -> list[Any]:
    edges = [0, *cuts, len(graph.steps)]
    return [Stage(graph, begin, end, f"stage{n}") for n, (begin, end) in enumerate(zip(edges, edges[1:], strict=False))]


@pytest.mark.parametrize("name", MODELS)
def test_stages_one_after_another_equal_the_whole_model(name: str) -> None:
    model, inputs = MODELS[name]()
    graph = graph_of(model)
    variables = model.trainable_variables
    expected = through([model], inputs, variables)
    for cuts in ([len(graph.steps) // 2], list(range(1, len(graph.steps)))):
        allowed = [cut for cut in cuts if cut not in graph.uncuttable()]
        found = through(stages(graph, allowed), [inputs], variables)
        assert_equal(found[0], expected[0])
        assert_equal(found[1], expected[1])


@pytest.mark.slow
def test_resnet_50_is_the_same_in_four_stages() -> None:
    model = keras.applications.ResNet50(weights=None, input_shape=(32, 32, 3), classes=5)
    inputs = images(32, 32, 3)
    graph = graph_of(model)
    parts = stages(graph, [40, 80, 130])
    watched = model.trainable_variables

    def both(which: list[Any], data: Any) -> Any:
        return tf.function(lambda: through(which, data, watched), autograph=False)()

    keep = [weight.numpy() for weight in model.weights]
    expected = both([model], inputs)
    for variable, value in zip(model.weights, keep, strict=True):
        variable.assign(value)
    assert_equal(both(parts, [inputs]), expected)


def test_what_crosses_a_cut_is_each_tensor_once_with_its_mask() -> None:
    graph = graph_of(masked()[0])  # Keras 3 hands the mask to the LSTM by name as well: it crosses twice
    at = graph.position("wide")
    by_name = [] if keras_compat.KERAS_2 else ["bool"]
    assert [spec.dtype for spec in travelling_specs(graph, at)] == [*by_name, "float64", "bool"]
    graph = graph_of(long_skips()[0])
    assert [len(travelling_specs(graph, at)) for at in range(len(graph.steps))] == [1, 2, 3, 4, 4, 3, 1]


def test_a_layer_used_twice_keeps_its_uses_on_one_stage() -> None:
    inputs = keras.Input((4,))
    shared = layers.Dense(4, name="twin")
    x = layers.Dense(4)(shared(inputs))
    graph = graph_of(keras.Model(inputs, layers.Dense(2)(shared(x))))
    assert graph.uncuttable() == {1: "layer 'twin' is shared by both sides", 2: "layer 'twin' is shared by both sides"}
    assert [step.name for step in graph.steps if step.layer is shared] == ["twin", "twin#2"]


def test_a_cut_may_fall_inside_a_nested_model() -> None:
    names = [step.name for step in graph_of(nested()[0]).steps]
    assert any(name.startswith("inner/add") for name in names)


def test_a_subclassed_model_is_refused_with_the_way_to_give_its_stages() -> None:
    class Own(keras.Model):
        def call(self, inputs: Any) -> Any:
            return inputs

    with pytest.raises(UserError, match="Own .* is subclassed") as caught:
        graph_of(Own())
    assert "return a list of layers" in (caught.value.remedy or "")


def test_an_unknown_layer_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'inner/dense"):
        graph_of(nested()[0]).position("iner/dense")


def subclassed_parts() -> list[Any]:
    """Stages given by the user; the second has no graph."""

    class Own(layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.inner = layers.Dense(5)

        def call(self, inputs: Any) -> Any:
            return tf.nn.tanh(self.inner(inputs))

    return [layers.Dense(4), Own(), layers.Dense(3)]


def test_stages_given_by_hand_are_cut_between_and_never_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    from saman.configs.schemas.experiment import Model
    from saman.trainers import models

    parts = ModuleType("parts")
    parts.subclassed_parts = subclassed_parts  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "parts", parts)
    model = models.build(Model(build="parts:subclassed_parts"), (6,))
    graph = graph_of(model)
    assert len(graph.steps) == 3
    inputs, variables = tf.constant(images(6)), model.trainable_variables
    assert_equal(through(stages(graph, [1, 2]), [inputs], variables), through([model], inputs, variables))
