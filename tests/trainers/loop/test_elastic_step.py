"""A step whose exchange fails changes nothing, and a rank knows afterwards which steps it has applied."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
pytest.importorskip("horovod.tensorflow")

import keras  # noqa: E402

from saman.configs.schemas.training import Train  # noqa: E402
from saman.trainers import keras_compat  # noqa: E402
from saman.trainers.loop.elastic_step import ElasticStep  # noqa: E402
from saman.trainers.program import program  # noqa: E402
from saman.trainers.program.loss_scale import LossScale  # noqa: E402
from saman.trainers.program.sums import COUNT  # noqa: E402
from saman.trainers.strategies.base import plan_exchange  # noqa: E402
from saman.trainers.strategies.elastic import ElasticHorovod  # noqa: E402
from saman.trainers.strategies.horovod import BUCKET_BYTES  # noqa: E402

pytestmark = pytest.mark.tensorflow
SPEC = (tf.TensorSpec([None, 6], tf.float32), tf.TensorSpec([None], tf.int32))
BATCH = 8


class Breaks:
    """Stands for Horovod on one rank: the exchange of the ``at``-th step fails, after parts of it have arrived."""

    Sum = "sum"

    def __init__(self, at: int) -> None:
        self.left = tf.Variable(at, dtype=tf.int64)

    def grouped_allreduce(self, tensors: list[Any], op: str, name: str) -> list[Any]:
        alive = tf.debugging.assert_greater(self.left.assign_sub(1), tf.constant(0, tf.int64), "Horovod: peer lost")
        with tf.control_dependencies([alive]):
            late = tf.identity(tensors[-1])
        return [*tensors[:-1], late]  # the others are here before the failure is


def elastic_step(at: int) -> ElasticStep:
    keras_compat.start_session(1, "float64")
    model = keras.Sequential([keras.Input([6]), keras.layers.Dense(8, "relu"), keras.layers.Dense(4, "softmax")])
    values = {"global_batch_size": BATCH, "precision": "float64", "learning_rate": 0.1, "optimizer": {"name": "adam"}}
    built = program.build(Train.model_validate(values), model, SPEC, None)
    strategy = ElasticHorovod.__new__(ElasticHorovod)
    strategy._hvd, strategy.slot, strategy.size, strategy.ranks, strategy.chief = Breaks(at), 0, 1, (0,), True
    return ElasticStep(built, strategy, 1, LossScale("float64"), jit_compile=False, compare_every=None)


def stream() -> Any:
    rng = np.random.default_rng(0)
    arrays = rng.normal(size=(64, 6)).astype("float32"), rng.integers(0, 4, 64).astype("int32")
    return iter(tf.data.Dataset.from_tensor_slices(arrays).batch(BATCH))


def after(step: ElasticStep, steps: int) -> dict[str, np.ndarray]:
    """The state after so many steps of one call; the call may fail."""
    step.open_books(0, (0.0, 0.0, 0.0, 0.0))
    try:
        step.train_many(0, [0.1] * steps, 0.0, [stream()])
    except tf.errors.InvalidArgumentError as error:
        assert "peer lost" in str(error)
    return {name: np.array(value) for name, value in step.state().items()}


@pytest.mark.parametrize("lost", [1, 4])
def test_a_lost_step_leaves_weights_optimiser_and_books_at_the_step_before(lost: int) -> None:
    broken, whole = elastic_step(at=lost), elastic_step(at=100)
    found, expected = after(broken, steps=6), after(whole, steps=lost - 1) if lost > 1 else whole.state()
    books = broken.books()
    assert books.step == lost - 1
    assert books.whole
    assert books.sums[COUNT] == BATCH * (lost - 1)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_a_state_that_is_being_replaced_is_not_whole() -> None:
    step = elastic_step(at=100)
    after(step, steps=2)
    step.void_books()
    assert not step.books().whole
    step.open_books(7, (0.0, 0.0, 0.0, 0.0))
    assert step.books().whole


def test_one_graph_serves_worlds_of_every_size() -> None:
    step = elastic_step(at=100)
    after(step, steps=1)
    before = step._steps_graph.experimental_get_tracing_count()
    step.strategy.ranks, step.strategy.size = (2,), 3
    step.regroup()
    step.train_many(1, [0.1], 0.0, [stream()])
    assert step.slices[0].index == 2
    assert step._steps_graph.experimental_get_tracing_count() == before


class Peer:
    """Stands for Horovod on two ranks, of which the other adds what the test says."""

    Sum = "sum"

    def __init__(self, adds: list[Any]) -> None:
        self.adds = adds

    def grouped_allreduce(self, tensors: list[Any], op: str, name: str) -> list[Any]:
        return [tensor + tf.cast(self.adds.pop(0), tensor.dtype) for tensor in tensors]


def test_one_graph_spreads_the_state_of_any_rank() -> None:
    step = elastic_step(at=100)
    after(step, steps=2)
    own = {name: np.array(value) for name, value in step.state().items()}
    optimizer = keras_compat.optimizer_state(step.program.optimizer, step._variables).values()
    kept = [keras_compat.tensor_of(each) for each in (*step.program.model.weights, *optimizer)]
    news = [tf.Variable(tf.cast(7 * tf.ones_like(value), value.dtype)) for value in kept]
    order = [place for places in plan_exchange(kept, BUCKET_BYTES) for place in places]
    step.strategy._hvd = Peer([news[place] for place in order])  # type: ignore[attr-defined]
    step.strategy.ranks, step.strategy.size = (1,), 2
    step.spread(0)
    assert all((np.asarray(value) == 7).all() for value in kept)
    step.restore(own)
    for new in news:
        new.assign(tf.zeros_like(new))  # what a rank sends that is not the source
    zero = step.program.model.weights[0]
    zero.assign(-0.0 * np.ones(zero.shape))
    own[next(iter(own))] = np.zeros(zero.shape)
    step.spread(1)
    assert not np.signbit(np.asarray(zero)).any()  # the sums of the others have lost the sign, too
    assert all((step.state()[name] == value).all() for name, value in own.items())
    assert step._spread.experimental_get_tracing_count() == 1
