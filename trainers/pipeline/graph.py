"""A functional or Sequential model as a chain of steps: layer calls in topological order, with numbered tensors.

Nested models are flattened, so that a cut may fall inside them. Keras 2 and 3 store their graphs differently; only
this file reads them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from saman.configs.errors import UserError, choices
from saman.trainers.keras_compat import KERAS_2, keras, tf

Key = int  # number of a tensor in the graph


@dataclass(frozen=True)
class LayerCall:
    """A call of a layer.

    Attributes:
        name: The layer's name, with the names of the models around it; later calls of a layer end in ``#2``, ``#3``…
        layer: The Keras layer.
        takes: Keys of the tensors that the call reads.
        gives: Keys of the tensors that the call returns.
        arguments: Returns the positional and keyword arguments of the call from tensors by key.
    """

    name: str
    layer: Any
    takes: tuple[Key, ...]
    gives: tuple[Key, ...]
    arguments: Callable[[Mapping[Key, Any]], tuple[tuple[Any, ...], dict[str, Any]]]


@dataclass(frozen=True)
class TensorSpec:
    """Shape (``None`` for the batch) and dtype of a tensor, and whether a mask belongs to it."""

    shape: tuple[int | None, ...]
    dtype: str
    masked: bool

    @property
    def has_gradient(self) -> bool:
        """Whether a gradient flows back through the tensor: not for integers, booleans and masks."""
        return bool(tf.as_dtype(self.dtype).is_floating)


@dataclass(frozen=True)
class Graph:
    """The steps of a model in the order in which Keras runs them.

    Attributes:
        model: The Keras model.
        steps: The layer calls.
        inputs: Keys of the model's inputs.
        outputs: Keys of the model's outputs.
        specs: The spec of each tensor by key.
    """

    model: Any
    steps: tuple[LayerCall, ...]
    inputs: tuple[Key, ...]
    outputs: tuple[Key, ...]
    specs: Mapping[Key, TensorSpec]

    def crossing(self, at: int) -> tuple[Key, ...]:
        """Return the keys of tensors made before step ``at`` and used at it or later, in the order they were made.

        At position 0 these are the model's used inputs; at the end, its outputs, each once.
        """
        made = {*self.inputs, *(key for step in self.steps[:at] for key in step.gives)}
        needed = {*self.outputs, *(key for step in self.steps[at:] for key in step.takes)}
        return tuple(sorted(made & needed))

    def uncuttable(self) -> dict[int, str]:
        """Return the positions between two calls of a layer with variables, each with the reason."""
        first: dict[int, int] = {}
        found: dict[int, str] = {}
        for at, step in enumerate(self.steps):
            if not getattr(step.layer, "variables", None):
                continue
            begin = first.setdefault(id(step.layer), at)
            reason = f"layer {step.layer.name!r} is shared by both sides"
            found = {**dict.fromkeys(range(begin + 1, at + 1), reason), **found}
        return found

    def position(self, name: str) -> int:
        """Return the position of the step ``name``.

        Raises:
            UserError: There is no such step; the nearest names are suggested.
        """
        for at, step in enumerate(self.steps):
            if step.name == name:
                return at
        remedy = choices(name, [step.name for step in self.steps])
        raise UserError(f"the model has no layer {name!r}", where="train.pipeline.cuts", remedy=remedy)


def graph_of(model: Any) -> Graph:
    """Return the graph of a model.

    Raises:
        UserError: The model is subclassed, so that its layers form no graph.
    """
    core = _functional(model)
    if core is None:
        raise UserError(
            f"{type(model).__name__} {model.name!r} is subclassed, so its layers form no graph that can be cut",
            where="model.build",
            remedy="build it with keras.Model(inputs, outputs) or keras.Sequential, or let package.module:function "
            "return a list of layers or models that run one after another; cuts then fall between them",
        )
    numbering = _Numbering()
    inputs = tuple(numbering.new(tensor) for tensor in core.inputs)
    steps, outputs = _expand(core, inputs, "", numbering)
    return Graph(model, tuple(_number_repeated_calls(steps)), inputs, outputs, numbering.specs)


class _Numbering:
    """Gives tensors their keys and records their specs."""

    def __init__(self) -> None:
        self.specs: dict[Key, TensorSpec] = {}

    def new(self, tensor: Any) -> Key:
        """Return the key of a tensor that was not numbered before."""
        key = len(self.specs)
        masked = getattr(tensor, "_keras_mask", None) is not None
        self.specs[key] = TensorSpec(tuple(tensor.shape), tf.as_dtype(tensor.dtype).name, masked)
        return key


def _functional(model: Any) -> Any | None:
    """Return the functional model behind ``model``, or ``None`` if it has no graph."""
    if isinstance(model, keras.Sequential):
        if KERAS_2:
            return model if getattr(model, "_graph_initialized", False) else None
        return getattr(model, "_functional", None)
    graphed = hasattr(model, "_nodes_by_depth") and hasattr(model, "inputs") and bool(model._nodes_by_depth)
    # A subclass with its own ``call`` may compute more than its graph shows.
    own_call = "call" in type(model).__dict__ and not type(model).__module__.startswith("keras")
    return model if graphed and not own_call else None


def _expand(
    model: Any, inputs: Sequence[Key], prefix: str, numbering: _Numbering
) -> tuple[list[LayerCall], tuple[Key, ...]]:
    keys = {id(tensor): key for tensor, key in zip(model.inputs, inputs, strict=True)}
    steps: list[LayerCall] = []
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            layer = _layer(node)
            if layer is None or node.is_input:
                continue
            taken = _inputs(node)
            inner = _nested(layer, node, taken)
            if inner is not None:
                arriving = [keys[id(tensor)] for tensor in taken]
                more, leaving = _expand(inner, arriving, f"{prefix}{layer.name}/", numbering)
                steps += more
                keys.update({id(tensor): key for tensor, key in zip(_outputs(node), leaving, strict=True)})
                continue
            takes = tuple(keys[id(tensor)] for tensor in taken)
            gives = tuple(numbering.new(tensor) for tensor in _outputs(node))
            keys.update({id(tensor): key for tensor, key in zip(_outputs(node), gives, strict=True)})
            steps.append(LayerCall(prefix + layer.name, layer, takes, gives, _argument_function(node, taken, takes)))
    return steps, tuple(keys[id(tensor)] for tensor in model.outputs)


def _nested(layer: Any, node: Any, taken: Sequence[Any]) -> Any | None:
    """Return the model to flatten; ``None`` for a layer, and for a model with further arguments in its call."""
    if not isinstance(layer, keras.Model):
        return None
    inner = _functional(layer)
    extra = node.call_kwargs if KERAS_2 else {k: v for k, v in node.arguments.kwargs.items() if v is not None}
    if inner is None or extra or len(taken) != len(inner.inputs):
        return None
    passed = (node.call_args if KERAS_2 else node.arguments.args)[0]
    return None if isinstance(passed, dict) else inner


def _layer(node: Any) -> Any:
    return node.layer if KERAS_2 else node.operation


def _inputs(node: Any) -> list[Any]:
    """Return the symbolic tensors among the arguments of the call, with repetitions."""
    return list(node.keras_inputs) if KERAS_2 else list(node.arguments.keras_tensors)


def _outputs(node: Any) -> list[Any]:
    return tf.nest.flatten(node.outputs) if KERAS_2 else list(node.outputs)


def _argument_function(node: Any, taken: Sequence[Any], takes: Sequence[Key]) -> Callable[[Mapping[Key, Any]], Any]:
    names = [id(tensor) for tensor in taken]

    def fill_in(values: Mapping[Key, Any]) -> Any:
        if KERAS_2:  # each use takes a copy out of a list
            uses: dict[str, list[Any]] = {}
            for name, key in zip(names, takes, strict=True):
                uses.setdefault(str(name), []).append(values[key])
            return node.map_arguments(uses)
        return node.arguments.fill_in({name: values[key] for name, key in zip(names, takes, strict=True)})

    return fill_in


def _number_repeated_calls(steps: Sequence[LayerCall]) -> list[LayerCall]:
    """Rename later calls of a layer to ``name#2``, ``name#3``…"""
    seen: Counter[str] = Counter()
    found = []
    for step in steps:
        seen[step.name] += 1
        name = step.name if seen[step.name] == 1 else f"{step.name}#{seen[step.name]}"
        found.append(LayerCall(name, step.layer, step.takes, step.gives, step.arguments))
    return found


def arrange_inputs(graph: Graph, inputs: Any) -> list[Any]:
    """Return inputs of any structure that the model takes as a list in the order of ``graph.inputs``.

    Values are cast as the model itself casts them.
    """
    core = _functional(graph.model)
    assert core is not None  # graph_of found it
    if KERAS_2:
        flat = core._flatten_to_reference_inputs(inputs)
        pairs = zip(flat, core.inputs, strict=True)
        return [core._conform_to_reference_input(tensor, ref_input=reference) for tensor, reference in pairs]
    return list(core._standardize_inputs(inputs))
