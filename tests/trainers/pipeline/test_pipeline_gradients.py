"""Gradients of a step: stages that pass messages to each other sum the same gradients as the whole model."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from saman.configs.errors import UserError
from saman.pipeline.chain import PipelinePlan

pytest.importorskip("tensorflow")

from pipeline_cases import long_skips

from saman.trainers import keras_compat
from saman.trainers.data.feed import Slice
from saman.trainers.keras_compat import keras, tf
from saman.trainers.models.cnn import build as cnn
from saman.trainers.models.mlp import build as mlp
from saman.trainers.models.transformer import build as transformer
from saman.trainers.pipeline.build import refuse_unseeded_layers
from saman.trainers.pipeline.graph import graph_of
from saman.trainers.pipeline.runner import StageRunner
from saman.trainers.pipeline.stage import Stage
from saman.trainers.pipeline.transport import Mailbox, ThreadTransport
from saman.trainers.program.loss_scale import LossScale
from saman.trainers.program.micro_batches import derive_seed
from saman.trainers.program.objective import Objective
from saman.trainers.program.program import Program

pytestmark = pytest.mark.tensorflow
SEED, STEP, EXAMPLES, MICRO_BATCHES = 5, 3, 10, 4  # micro-batches of 3, 3, 2 and 2 examples
OBJECTIVE = Objective("sparse_categorical_crossentropy")
MODELS: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "mlp": (lambda: mlp((6, 6, 1), 4, [8, 6, 5], 0.2), (6, 6, 1)),
    "cnn": (lambda: cnn((6, 6, 1), 4, [3, 4], 5, True, 0.2), (6, 6, 1)),
    "transformer": (lambda: transformer((7,), 4, 20, 8, 2, 2, 0.2), (7,)),
    "long skips": (lambda: long_skips((6, 6, 1)), (6, 6, 1)),
}


@pytest.fixture(autouse=True)
def _double_precision() -> Any:
    keras_compat.start_session(11, "float64")
    yield
    keras_compat.start_session(0, "float32")


def batch(shape: tuple[int, ...]) -> tuple[Any, Any]:
    drawn = np.random.default_rng(3)
    tokens = len(shape) == 1
    inputs = drawn.integers(1, 20, (EXAMPLES, *shape)).astype("int32") if tokens else drawn.random((EXAMPLES, *shape))
    return tf.constant(inputs), tf.constant(drawn.integers(0, 4, EXAMPLES))


def program(model: Any, examples: tuple[Any, Any]) -> Program:
    spec = tuple(tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype) for tensor in examples)
    return Program(
        model=model,
        optimizer=keras.optimizers.SGD(),
        objective=OBJECTIVE,
        normalize=None,
        element_spec=(spec[0], spec[1]),
        seed=SEED,
    )


def of_the_whole(model: Any, inputs: Any, labels: Any) -> list[Any]:
    """Sums over the examples, micro-batch by micro-batch."""
    watched = [keras_compat.tensor_of(variable) for variable in model.trainable_variables]

    @tf.function(autograph=False)
    def gradients(number: Any, inputs: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            sources = range(len(keras_compat.random_sources(model)))
            seeds = [derive_seed(SEED, tf.constant(STEP), number, source) for source in sources]
            passed = keras_compat.forward(model, inputs, seeds)
            added = tf.add_n([tf.reduce_sum(loss) for loss in passed.losses]) if passed.losses else 0.0
            loss = tf.reduce_sum(OBJECTIVE.losses(labels, passed.outputs)) + added * int(labels.shape[0])
        found = tape.gradient(loss, watched, unconnected_gradients="zero")
        return [tf.convert_to_tensor(gradient) for gradient in found]

    parts = range(MICRO_BATCHES)
    each = [gradients(tf.constant(n), inputs[n::MICRO_BATCHES], labels[n::MICRO_BATCHES]) for n in parts]
    return [tf.add_n(column) for column in zip(*each, strict=True)]


def of_stages(model: Any, plan: PipelinePlan, examples: tuple[Any, Any]) -> dict[int, Any]:
    """Each variable's, by its identity; stages are threads."""
    graph = graph_of(model)
    allowed = [cut for cut in range(1, len(graph.steps)) if cut not in graph.uncuttable()]
    cuts = [allowed[len(allowed) * stage // plan.stages] for stage in range(1, plan.stages)]
    edges = [0, *cuts, len(graph.steps)]
    sources = {id(source): number for number, source in enumerate(keras_compat.random_sources(model))}
    boxes = [Mailbox() for _ in range(plan.stages)]
    runners = []
    for index in range(plan.stages):
        stage = Stage(graph, edges[index], edges[index + 1], f"stage_{index}")
        runner = StageRunner(
            program=program(stage, examples),
            graph=graph,
            index=index,
            plan=plan,
            transport=ThreadTransport(index, boxes),
            random_layers=[sources[id(source)] for source in keras_compat.random_sources(stage)],
            scale=LossScale("float64"),
        )
        runners.append(runner)
    with ThreadPoolExecutor(plan.stages) as threads:
        sums = list(threads.map(lambda runner: runner.step(STEP, Slice(0, 1), examples), runners))
    return {
        id(variable): gradient
        for runner, stage_sums in zip(runners, sums, strict=True)
        for variable, gradient in zip(runner.variables, stage_sums.gradients, strict=True)
    }


@pytest.mark.parametrize(
    "plan",
    [
        PipelinePlan(2, MICRO_BATCHES),
        PipelinePlan(2, MICRO_BATCHES, "gpipe"),
        PipelinePlan(2, MICRO_BATCHES, recompute=True),
    ],
)
@pytest.mark.parametrize("name", MODELS)
def test_stages_sum_the_gradients_of_the_whole_model(name: str, plan: PipelinePlan) -> None:
    build, shape = MODELS[name]
    model, examples = build(), batch(shape)
    expected = of_the_whole(model, *examples)
    found = of_stages(model, plan, examples)
    for variable, gradient in zip(model.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(found[id(variable)], gradient, rtol=1e-10, atol=1e-12, err_msg=variable.name)


class Noise(keras.layers.Layer):  # type: ignore[misc]
    """Draws from TensorFlow's own state."""

    def call(self, inputs: Any) -> Any:
        return inputs + tf.random.normal(tf.shape(inputs), dtype=inputs.dtype)


def test_a_layer_whose_random_numbers_cannot_be_seeded_is_refused_by_name() -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dropout(0.5), Noise(name="hiss"), keras.layers.Dense(2)])
    with pytest.raises(UserError, match="'hiss' .Noise. draws random numbers"):
        refuse_unseeded_layers(graph_of(model))
    seeded = keras.Sequential([keras.Input((3,)), keras.layers.Dropout(0.5), keras.layers.GaussianNoise(0.1)])
    refuse_unseeded_layers(graph_of(seeded))
