"""Bytes of each layer's parameters, of what it keeps for its backward pass, and of the tensors that cross a cut."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

import numpy as np

from saman.trainers.keras_compat import tensor_of, tf
from saman.trainers.pipeline.graph import Graph
from saman.trainers.pipeline.stage import run_step

# Weights and constants are in memory anyway, inputs belong to the data.
_NOT_KEPT = ("ReadVariableOp", "Const", "Placeholder")
_READ_THE_SHAPE_ALONE = ("Shape", "ShapeN", "ZerosLike")


def kept_bytes(graph: Graph, inputs: list[Any]) -> list[int]:
    """Return, for each step, the bytes of its tensors that operations of the backward pass read."""
    kept: dict[int, int] = {}

    def trace(*arrived: Any) -> Any:
        traced = tf.compat.v1.get_default_graph()
        ends = []
        watched = [tensor_of(variable) for variable in graph.model.trainable_variables]
        with tf.GradientTape() as tape:
            values = dict(zip(graph.inputs, arrived, strict=True))
            for step in graph.steps:
                values.update(zip(step.gives, run_step(step, values, training=True), strict=True))
                ends.append(len(traced.get_operations()))
            outputs = [values[key] for key in graph.outputs]
            loss = tf.add_n([tf.reduce_sum(tf.cast(output, tf.float32)) for output in outputs])
        forward = len(traced.get_operations())
        gradients = tape.gradient(loss, watched, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        kept.update(_bytes_read(traced.get_operations(), forward, ends))
        return [tf.convert_to_tensor(gradient) for gradient in gradients]

    specs = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in inputs]
    tf.function(trace, autograph=False).get_concrete_function(*specs)
    return [kept.get(at, 0) for at in range(len(graph.steps))]


def _bytes_read(operations: list[Any], forward: int, ends: list[int]) -> dict[int, int]:
    """Return, for each step, the bytes that the operations after the first ``forward`` read of its tensors.

    ``ends`` holds the number of operations after each step; each tensor counts once.
    """
    place = {operation.name: at for at, operation in enumerate(operations)}
    seen = set()
    read: dict[int, int] = {}
    for operation in operations[forward:]:
        for tensor in operation.inputs:
            at = place[tensor.op.name]
            if at < forward and tensor.name not in seen and _is_kept(operation, tensor):
                seen.add(tensor.name)
                made_by = min(bisect_right(ends, at), len(ends) - 1)
                read[made_by] = read.get(made_by, 0) + tensor.shape.num_elements() * tensor.dtype.size
    return read


def _is_kept(reader: Any, tensor: Any) -> bool:
    if tensor.op.type in _NOT_KEPT or reader.type in _READ_THE_SHAPE_ALONE:
        return False
    return tensor.shape.num_elements() is not None and tensor.dtype.size is not None


def parameter_bytes(graph: Graph, at: int) -> int:
    """Profile the trainable variables of a step's layer: their bytes; 0 for later calls of the layer."""
    layer = graph.steps[at].layer
    if any(step.layer is layer for step in graph.steps[:at]):
        return 0
    return sum(
        int(np.prod(variable.shape, dtype=np.int64)) * tf.as_dtype(variable.dtype).size
        for variable in getattr(layer, "trainable_variables", [])
    )


def crossing_bytes(graph: Graph, inputs: list[Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Profile the cut before each step: the bytes sent forward and the bytes of gradients sent back."""
    sizes = _tensor_bytes(graph, inputs)
    crossing = [graph.crossing(at) if at else () for at in range(len(graph.steps))]
    forward = tuple(sum(sizes[key][0] for key in keys) for keys in crossing)
    return forward, tuple(sum(sizes[key][1] for key in keys) for keys in crossing)


def _tensor_bytes(graph: Graph, inputs: list[Any]) -> dict[int, tuple[int, int]]:
    """Return, for each tensor, its bytes with its mask, and the bytes of its gradient."""

    def measure(tensor: Any) -> tuple[int, int]:
        own = int(np.prod(tensor.shape, dtype=np.int64)) * tensor.dtype.size
        mask = getattr(tensor, "_keras_mask", None)
        of_mask = 0 if mask is None else int(np.prod(mask.shape, dtype=np.int64))
        return own + of_mask, own if tensor.dtype.is_floating else 0

    values = dict(zip(graph.inputs, inputs, strict=True))
    sizes = {key: measure(tensor) for key, tensor in values.items()}
    for step in graph.steps:
        made = dict(zip(step.gives, run_step(step, values, training=True), strict=True))
        values.update(made)
        sizes.update({key: measure(tensor) for key, tensor in made.items()})
    return sizes
