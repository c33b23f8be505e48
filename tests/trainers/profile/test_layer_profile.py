"""The profile of a model: bytes that can be counted by hand, and times that add up to the whole model's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from saman.trainers.keras_compat import keras, tf
from saman.trainers.pipeline.graph import Graph, graph_of
from saman.trainers.profile.link import measure_link
from saman.trainers.profile.memory import crossing_bytes, kept_bytes, parameter_bytes
from saman.trainers.profile.timing import measure_passes

pytestmark = pytest.mark.tensorflow
layers = keras.layers
EXAMPLES, FLOAT = 4, 4
X = tf.constant(np.ones((EXAMPLES, 6), "float32"))


@pytest.fixture(scope="module")
def chain() -> Graph:
    """Dense 6 → 5 → 3, with a relu between."""
    return graph_of(
        keras.Sequential(
            [keras.Input((6,)), layers.Dense(5, name="a"), layers.ReLU(name="b"), layers.Dense(3, name="c")]
        )
    )


def steps_of(graph: Graph) -> dict[str, int]:
    return {step.name: at for at, step in enumerate(graph.steps)}


def test_parameters_are_counted_once_however_often_their_layer_is_called() -> None:
    inputs = keras.Input((6,))
    shared = layers.Dense(6, name="shared")
    graph = graph_of(keras.Model(inputs, shared(shared(inputs))))
    assert sorted(parameter_bytes(graph, at) for at in range(len(graph.steps)))[-1] == (6 * 6 + 6) * FLOAT
    assert sum(parameter_bytes(graph, at) for at in range(len(graph.steps))) == (6 * 6 + 6) * FLOAT


def test_a_cut_sends_what_is_still_needed_and_its_gradient_back(chain: Graph) -> None:
    at = steps_of(chain)
    forward, backward = crossing_bytes(chain, [X])
    for name, width in (("b", 5), ("c", 5)):
        assert forward[at[name]] == backward[at[name]] == EXAMPLES * width * FLOAT
    assert len(forward) == len(chain.steps)


def test_a_skip_connection_crosses_every_cut_that_it_spans() -> None:
    inputs = keras.Input((6,))
    first = layers.Dense(5, name="first")(inputs)
    second = layers.Dense(5, name="second")(first)
    graph = graph_of(keras.Model(inputs, layers.Add(name="sum")([layers.Dense(5, name="third")(second), first])))
    forward, _ = crossing_bytes(graph, [X])
    assert forward[steps_of(graph)["third"]] == 2 * EXAMPLES * 5 * FLOAT  # second and first


def test_integers_have_no_gradient_to_send_back() -> None:
    inputs = keras.Input((3,), dtype="int32")
    graph = graph_of(
        keras.Model(inputs, layers.Embedding(9, 2, name="table")(layers.Reshape((3,), name="same")(inputs)))
    )
    tokens = tf.zeros((EXAMPLES, 3), tf.int32)
    forward, backward = crossing_bytes(graph, [tokens])
    at = steps_of(graph)["table"]
    assert (forward[at], backward[at]) == (EXAMPLES * 3 * 4, 0)


def test_what_the_backward_pass_reads_is_kept(chain: Graph) -> None:
    kept = dict(zip(steps_of(chain), kept_bytes(chain, [X]), strict=True))
    # ReLU's backward pass reads its output, which is also the input of the last layer: it is kept once.
    assert sum(kept.values()) >= EXAMPLES * 5 * FLOAT
    assert sum(kept.values()) <= EXAMPLES * (5 + 5 + 3) * FLOAT


def test_layers_together_take_no_longer_than_the_whole_model(chain: Graph) -> None:
    times = measure_passes(chain, [X])
    assert len(times.layers) == len(chain.steps)
    for part in ("forward_seconds", "backward_seconds"):
        total = sum(getattr(layer, part) for layer in times.layers)
        assert 0 < total <= getattr(times.whole, part) * (1 + 1e-9)


def test_a_link_has_a_latency_and_a_bandwidth() -> None:
    link: Any = measure_link()
    assert 0 < link.latency_seconds < 1
    assert link.bytes_per_second > 1e6
