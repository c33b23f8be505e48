"""A stage: consecutive steps of a model's graph as a Keras model of its own.

A tensor travels through every stage between its maker and its user: a skip connection over three stages passes
through the middle stage. A mask travels directly behind its tensor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from saman.trainers.keras_compat import KERAS_2, keras, tf
from saman.trainers.pipeline.graph import Graph, Key, LayerCall, TensorSpec


def travelling_specs(graph: Graph, at: int) -> list[TensorSpec]:
    """Return the specs of what crosses position ``at``, in order: each tensor, followed by its mask, if any."""
    found = []
    for key in _keys(graph, at):
        spec = graph.specs[key]
        found.append(spec)
        if _mask_travels(graph, key, at):
            found.append(TensorSpec(spec.shape[:2], "bool", False))
    return found


def _keys(graph: Graph, at: int) -> tuple[Key, ...]:
    if at == 0:
        return graph.inputs
    return graph.crossing(at)


def _mask_travels(graph: Graph, key: Key, at: int) -> bool:
    return graph.specs[key].masked and 0 < at < len(graph.steps)


class Stage(keras.Model):
    """Steps [begin, end) of a graph, from a list of tensors as in ``travelling_specs(graph, begin)`` to such a list.

    The last stage returns the model's outputs in the structure of the model's own.
    """

    def __init__(self, graph: Graph, begin: int, end: int, name: str) -> None:
        super().__init__(name=name)
        self._convert_input_args = False  # Keras 3: crossing tensors keep their precision
        self._autocast = False  # Keras 2: the same
        self.begin, self.end = begin, end
        self.is_last = end == len(graph.steps)
        self._graph = _Opaque(graph)
        self.parts = _layers(graph, begin, end)
        self.built = True

    def call(self, arriving: Sequence[Any], training: Any = None) -> Any:
        """Return the tensors that leave the stage for those that arrive."""
        graph = self._graph.value
        values = _unpack(graph, self.begin, arriving)
        for step in graph.steps[self.begin : self.end]:
            values.update(zip(step.gives, run_step(step, values, training), strict=True))
        if self.is_last:
            return _restructure(graph.model, [values[key] for key in graph.outputs])
        return _pack(graph, self.end, values)


def run_step(step: LayerCall, values: Mapping[Key, Any], training: Any) -> list[Any]:
    """Run a layer call on tensors.

    Args:
        step: The layer call.
        values: The tensors that it may read, by key.
        training: Whether the layer is in training mode.

    Returns:
        The tensors that the call gives, in one flat list.
    """
    args, kwargs = step.arguments(values)
    outputs = step.layer(*args, **_with_training(step.layer, kwargs, training))
    return list(tf.nest.flatten(outputs))


class _Opaque:
    """Hides the graph from Keras, which would track the layers of every stage."""

    def __init__(self, value: Graph) -> None:
        self.value = value


def _layers(graph: Graph, begin: int, end: int) -> list[Any]:
    """Return the layers of the steps, each once, in the order of the graph."""
    layers = (step.layer for step in graph.steps[begin:end] if isinstance(step.layer, keras.layers.Layer))
    return list({id(layer): layer for layer in layers}.values())


def _unpack(graph: Graph, at: int, arriving: Sequence[Any]) -> dict[Key, Any]:
    values, rest = {}, iter(arriving)
    for key in _keys(graph, at):
        tensor = next(rest)
        if at == 0 or _mask_travels(graph, key, at):
            tensor = tf.identity(tensor)  # the mask becomes an attribute of the copy
        if _mask_travels(graph, key, at):
            tensor._keras_mask = next(rest)
        values[key] = tensor
    return values


def _pack(graph: Graph, at: int, values: dict[Key, Any]) -> list[Any]:
    leaving = []
    for key in _keys(graph, at):
        leaving.append(tf.identity(values[key]))
        if _mask_travels(graph, key, at):
            mask = getattr(values[key], "_keras_mask", None)
            if mask is None:
                raise RuntimeError(f"the graph announces a mask at position {at}, but the layers made none")
            leaving.append(tf.identity(mask))
    return leaving


def _with_training(layer: Any, kwargs: dict[str, Any], training: Any) -> dict[str, Any]:
    """Add ``training`` for a layer that takes it, as Keras 3's models do; Keras 2's layers find it by themselves."""
    if KERAS_2 or training is None or not getattr(layer, "_call_has_training_arg", False):
        return kwargs
    return {**kwargs, "training": training}


def _restructure(model: Any, outputs: list[Any]) -> Any:
    """Return outputs in the structure of the whole model's outputs."""
    if len(outputs) == 1:
        return outputs[0]
    return tf.nest.pack_sequence_as(tf.nest.map_structure(lambda _: 0, _structure(model)), outputs)


def _structure(model: Any) -> Any:
    core = getattr(model, "_functional", None) or model
    return core._nested_outputs if KERAS_2 else core._outputs_struct
