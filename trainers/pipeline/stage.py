"""A stage: consecutive steps of a model's graph as a Keras model of its own, from what arrives to what leaves.

Everything that crosses a cut arrives at and leaves each stage in between: a skip connection over three stages passes
through the middle one. A mask travels right behind its tensor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from saman.trainers.keras_compat import KERAS_2, keras, tf
from saman.trainers.pipeline.graph import Graph, Key, LayerCall, TensorSpec


def travelling(graph: Graph, at: int) -> list[TensorSpec]:
    """What crosses position ``at``, in order: each tensor, then its mask where it has one."""
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
    """Steps [begin, end) of a graph. Called with a list, as ``travelling(graph, begin)`` says; gives such a list too.

    The last stage gives the model's outputs, in the structure of the model's own.
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
        """What leaves the stage, of what arrives."""
        graph = self._graph.value
        values = _unpacked(graph, self.begin, arriving)
        for step in graph.steps[self.begin : self.end]:
            values.update(zip(step.gives, run_step(step, values, training), strict=True))
        if self.is_last:
            return _structured(graph.model, [values[key] for key in graph.outputs])
        return _packed(graph, self.end, values)


def run_step(step: LayerCall, values: Mapping[Key, Any], training: Any) -> list[Any]:
    """What one step gives, of the tensors it takes."""
    args, kwargs = step.arguments(values)
    outputs = step.layer(*args, **_with_training(step.layer, kwargs, training))
    return list(tf.nest.flatten(outputs))


class _Opaque:
    """Keeps Keras from tracking what is inside: the graph refers to the layers of every stage."""

    def __init__(self, value: Graph) -> None:
        self.value = value


def _layers(graph: Graph, begin: int, end: int) -> list[Any]:
    """The layers of the steps, each once, in the order of the graph."""
    layers = (step.layer for step in graph.steps[begin:end] if isinstance(step.layer, keras.layers.Layer))
    return list({id(layer): layer for layer in layers}.values())


def _unpacked(graph: Graph, at: int, arriving: Sequence[Any]) -> dict[Key, Any]:
    values, rest = {}, iter(arriving)
    for key in _keys(graph, at):
        tensor = next(rest)
        if at == 0 or _mask_travels(graph, key, at):
            tensor = tf.identity(tensor)  # the mask is written on it
        if _mask_travels(graph, key, at):
            tensor._keras_mask = next(rest)
        values[key] = tensor
    return values


def _packed(graph: Graph, at: int, values: dict[Key, Any]) -> list[Any]:
    leaving = []
    for key in _keys(graph, at):
        leaving.append(tf.identity(values[key]))
        if _mask_travels(graph, key, at):
            mask = getattr(values[key], "_keras_mask", None)
            if mask is None:
                raise RuntimeError(f"a mask that crosses position {at} was announced by the graph but is not there")
            leaving.append(tf.identity(mask))
    return leaving


def _with_training(layer: Any, kwargs: dict[str, Any], training: Any) -> dict[str, Any]:
    """Keras 3's models hand ``training`` to each layer that takes it; Keras 2's layers find it by themselves."""
    if KERAS_2 or training is None or not getattr(layer, "_call_has_training_arg", False):
        return kwargs
    return {**kwargs, "training": training}


def _structured(model: Any, outputs: list[Any]) -> Any:
    """Outputs in the structure that the whole model gives."""
    if len(outputs) == 1:
        return outputs[0]
    return tf.nest.pack_sequence_as(tf.nest.map_structure(lambda one: 0, _structure(model)), outputs)


def _structure(model: Any) -> Any:
    core = getattr(model, "_functional", None) or model
    return core._nested_outputs if KERAS_2 else core._outputs_struct
