"""Seconds of each layer's forward and backward pass.

Each layer is timed as a compiled forward pass under a tape and its compiled backward pass. The times are then scaled so
that together they take what the whole model takes: a separate call has its own overhead, and TensorFlow fuses across
layers.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from saman.trainers.keras_compat import tensor_of, tf
from saman.trainers.pipeline.graph import Graph, LayerCall
from saman.trainers.pipeline.stage import run_step

BUDGET_SECONDS, FEWEST, MOST = 0.08, 3, 30  # of repetitions per timing


@dataclass(frozen=True)
class PassTimes:
    """Seconds of a forward pass under a tape, and of the backward pass."""

    forward_seconds: float
    backward_seconds: float

    @property
    def seconds(self) -> float:
        """Seconds of both passes."""
        return self.forward_seconds + self.backward_seconds


@dataclass(frozen=True)
class ModelTimes:
    """Times of each step of a graph, scaled to the time of the whole model, which stands beside them."""

    layers: tuple[PassTimes, ...]
    whole: PassTimes


def measure_passes(graph: Graph, inputs: list[Any]) -> ModelTimes:
    """Measure the passes of a graph's steps and of the whole model on ``inputs``."""
    layers = _time_layers(graph, inputs)
    whole = _time_whole(graph, inputs)
    forward, backward = (
        min(1.0, total / max(1e-9, sum(parts)))
        for total, parts in (
            (whole.forward_seconds, [layer.forward_seconds for layer in layers]),
            (whole.backward_seconds, [layer.backward_seconds for layer in layers]),
        )
    )
    scaled = (PassTimes(layer.forward_seconds * forward, layer.backward_seconds * backward) for layer in layers)
    return ModelTimes(tuple(scaled), whole)


def _time_layers(graph: Graph, inputs: list[Any]) -> list[PassTimes]:
    """Time each step on the tensors that really reach it; tensors are freed after their last use."""
    values = dict(zip(graph.inputs, inputs, strict=True))
    last_use = {key: at for at, step in enumerate(graph.steps) for key in step.takes}
    times = []
    for at, step in enumerate(graph.steps):
        times.append(_time_layer(step, [values[key] for key in step.takes]))
        values.update(zip(step.gives, run_step(step, values, training=True), strict=True))
        for key in [key for key in values if last_use.get(key, at + 1) <= at and key not in graph.outputs]:
            del values[key]
    return times


def _time_layer(step: LayerCall, taken: list[Any]) -> PassTimes:
    masks = [getattr(tensor, "_keras_mask", None) for tensor in taken]

    def call(*arrived: Any) -> Any:
        values = {key: _with_mask(tensor, mask) for key, tensor, mask in zip(step.takes, arrived, masks, strict=True)}
        return run_step(step, values, training=True)

    variables = [tensor_of(variable) for variable in getattr(step.layer, "trainable_variables", [])]
    return _time_passes(tf.function(call, autograph=False), taken, variables)


def _with_mask(tensor: Any, mask: Any) -> Any:
    tensor = tf.identity(tensor)
    if mask is not None:
        tensor._keras_mask = mask
    return tensor


def _time_whole(graph: Graph, inputs: list[Any]) -> PassTimes:
    def call(*arrived: Any) -> Any:
        values = {key: tf.identity(tensor) for key, tensor in zip(graph.inputs, arrived, strict=True)}
        for step in graph.steps:
            values.update(zip(step.gives, run_step(step, values, training=True), strict=True))
        return [values[key] for key in graph.outputs]

    variables = [tensor_of(variable) for variable in graph.model.trainable_variables]
    return _time_passes(tf.function(call, autograph=False), inputs, variables, budgets=2)


def _time_passes(
    call: Callable[..., Any], taken: Sequence[Any], variables: Sequence[Any], budgets: int = 1
) -> PassTimes:
    """Return the medians over as many repetitions as fit into ``budgets`` × ``BUDGET_SECONDS``."""
    sources = [*variables, *(tensor for tensor in taken if tensor.dtype.is_floating)]

    def run() -> PassTimes:
        began = time.perf_counter()
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(sources)
            outputs = [tensor for tensor in tf.nest.flatten(call(*taken)) if tensor.dtype.is_floating]
        between = time.perf_counter()
        if outputs and sources:
            tape.gradient(outputs, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return PassTimes(between - began, time.perf_counter() - between)

    run()  # traces
    count = min(MOST, max(FEWEST, int(BUDGET_SECONDS * budgets / max(run().seconds, 1e-6))))
    times = [run() for _ in range(count)]
    forward = statistics.median(each.forward_seconds for each in times)
    return PassTimes(forward, statistics.median(each.backward_seconds for each in times))
