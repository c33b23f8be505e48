"""``python -m saman.trainers.profile EXPERIMENT.yaml OUT.json``: measures each layer of a model on this machine.

Times are those of a compiled forward pass under a tape and of its compiled backward pass, layer by layer, scaled so
that together they take what the whole model takes at once (a single call has its own overhead, and TensorFlow
fuses across layers).
"""

from __future__ import annotations

import os
import statistics
import sys
import time
import traceback
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from saman.configs.errors import ExitCode, UserError
from saman.configs.files import write_json
from saman.pipeline.chain import Chain, Layer, Link
from saman.pipeline.profile import Profile, micro_batch_examples
from saman.runs import variables

if TYPE_CHECKING:
    from saman.configs.schemas.experiment import Experiment
    from saman.trainers.pipeline.graph import Graph

BUDGET_SECONDS, LEAST, MOST = 0.08, 3, 30  # per timing


def main(arguments: list[str]) -> int:
    """Measure; returns the exit code."""
    if len(arguments) != 2:
        print("usage: python -m saman.trainers.profile EXPERIMENT.yaml OUT.json", file=sys.stderr)
        return ExitCode.BAD_REQUEST
    from saman.configs import yaml12
    from saman.configs.problems import validated
    from saman.configs.schemas.experiment import Experiment

    sys.path += [part for part in os.environ.get(variables.CODE_PATH, "").split(os.pathsep) if part]
    try:
        file = Path(arguments[0])
        experiment = validated(Experiment, yaml12.read(file), str(file))
        write_json(Path(arguments[1]), profile(experiment).to_json())
    except UserError as error:
        print(f"saman: {error}", file=sys.stderr)
        return int(error.exit_code)
    except Exception:
        traceback.print_exc()
        return ExitCode.RUN_FAILED
    return ExitCode.DONE


def profile(experiment: Experiment) -> Profile:
    """The chain of an experiment's model with measured times and memory."""
    from saman.trainers import assembly, keras_compat, models
    from saman.trainers.pipeline.build import unweighted, weigh
    from saman.trainers.pipeline.graph import arranged, graph_of
    from saman.trainers.strategies.devices import claim

    claim(1, experiment.resources.gpus_per_rank)
    keras_compat.begin(experiment.train.seed, experiment.train.precision)
    prepared = assembly.prepare(experiment, _alone(experiment))
    # A model that has no graph is refused before its weights take time and memory.
    graph = graph_of(unweighted(lambda: models.build(experiment.model, prepared.input_shape)))
    weigh(graph.model)
    examples = micro_batch_examples(experiment)
    batch = _examples(prepared, examples)
    normalize = prepared.splits(0).normalize
    inputs = arranged(graph, _cast(normalize(batch) if normalize else batch))
    times = [list(one) for one in _layer_seconds(graph, inputs)]
    whole = _whole_seconds(graph, inputs)
    for kind in (0, 1):  # forward, backward
        factor = whole[kind] / max(1e-9, sum(one[kind] for one in times))
        for one in times:
            one[kind] *= min(1.0, factor)
    kept = _activation_bytes(graph, inputs)
    sizes = _sizes(graph, inputs)
    layers = tuple(
        Layer(step.name, times[at][0], times[at][1], _parameter_bytes(graph, at), kept[at])
        for at, step in enumerate(graph.steps)
    )
    chain = Chain(layers, *_crossings(graph, sizes), graph.uncuttable())
    about = {"model": experiment.model.build, "tensorflow": keras_compat.tf.__version__}
    return Profile(chain, _link(), examples, sum(whole), about)


def _alone(experiment: Experiment) -> Any:
    """Stands for the strategy while the data are prepared."""
    from saman.trainers.strategies.single import Single

    strategy = Single()
    strategy.size = experiment.resources.ranks
    return strategy


def _examples(prepared: Any, count: int) -> Any:
    """Inputs of ``count`` real examples, repeated where the data have fewer."""
    from saman.trainers.data.feed import Slice
    from saman.trainers.keras_compat import tf

    [inputs, _] = next(iter(prepared.feeds.train(0).batches(Slice(0, 1))))
    return tf.nest.map_structure(lambda one: tf.gather(one, tf.range(count) % tf.shape(one)[0]), inputs)


def _cast(values: Any) -> Any:
    from saman.trainers.keras_compat import keras, tf

    floatx = keras.backend.floatx()
    return tf.nest.map_structure(lambda one: tf.cast(one, floatx) if one.dtype.is_floating else one, values)


def _layer_seconds(graph: Graph, inputs: list[Any]) -> list[tuple[float, float]]:
    """Forward and backward seconds of each step, on the tensors that really reach it."""
    from saman.trainers.keras_compat import tensor_of, tf
    from saman.trainers.pipeline.stage import run_step

    values = dict(zip(graph.inputs, inputs, strict=True))
    last_use = {key: at for at, step in enumerate(graph.steps) for key in step.takes}
    found = []
    for at, step in enumerate(graph.steps):
        taken = [values[key] for key in step.takes]
        masks = [getattr(one, "_keras_mask", None) for one in taken]

        def call(*arrived: Any, step: Any = step, masks: Any = masks) -> Any:
            held = {key: _masked(one, mask) for key, one, mask in zip(step.takes, arrived, masks, strict=True)}
            return run_step(step, held, training=True)

        watched = [tensor_of(one) for one in getattr(step.layer, "trainable_variables", [])]
        found.append(_seconds(tf.function(call, autograph=False), taken, watched))
        values.update(zip(step.gives, run_step(step, values, training=True), strict=True))
        for key in [key for key in values if last_use.get(key, at + 1) <= at and key not in graph.outputs]:
            del values[key]
    return found


def _masked(tensor: Any, mask: Any) -> Any:
    from saman.trainers.keras_compat import tf

    tensor = tf.identity(tensor)
    if mask is not None:
        tensor._keras_mask = mask
    return tensor


def _whole_seconds(graph: Graph, inputs: list[Any]) -> tuple[float, float]:
    from saman.trainers.keras_compat import tensor_of, tf
    from saman.trainers.pipeline.stage import run_step

    def call(*arrived: Any) -> Any:
        values = {key: tf.identity(one) for key, one in zip(graph.inputs, arrived, strict=True)}
        for step in graph.steps:
            values.update(zip(step.gives, run_step(step, values, training=True), strict=True))
        return [values[key] for key in graph.outputs]

    watched = [tensor_of(one) for one in graph.model.trainable_variables]
    return _seconds(tf.function(call, autograph=False), inputs, watched, repeat=2)


def _seconds(call: Callable[..., Any], taken: list[Any], watched: list[Any], repeat: int = 1) -> tuple[float, float]:
    """Medians of the forward pass under a tape, and of the backward pass."""
    from saman.trainers.keras_compat import tf

    sources = [*watched, *(one for one in taken if one.dtype.is_floating)]

    def once() -> tuple[float, float]:
        began = time.perf_counter()
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(sources)
            outputs = [one for one in tf.nest.flatten(call(*taken)) if one.dtype.is_floating]
        between = time.perf_counter()
        if outputs and sources:
            tape.gradient(outputs, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return between - began, time.perf_counter() - between

    once()  # traces
    first = sum(once())
    count = min(MOST, max(LEAST, int(BUDGET_SECONDS * repeat / max(first, 1e-6))))
    pairs = [once() for _ in range(count)]
    return statistics.median(one[0] for one in pairs), statistics.median(one[1] for one in pairs)


def _activation_bytes(graph: Graph, inputs: list[Any]) -> list[int]:
    """Bytes that the backward pass needs of each step's tensors: what its operations read of the forward pass."""
    from saman.trainers.keras_compat import tensor_of, tf
    from saman.trainers.pipeline.stage import run_step

    kept: dict[int, int] = {}

    def both(*arrived: Any) -> Any:
        traced = tf.compat.v1.get_default_graph()
        ends = []
        watched = [tensor_of(one) for one in graph.model.trainable_variables]
        with tf.GradientTape() as tape:
            values = dict(zip(graph.inputs, arrived, strict=True))
            for step in graph.steps:
                values.update(zip(step.gives, run_step(step, values, training=True), strict=True))
                ends.append(len(traced.get_operations()))
            outputs = [values[key] for key in graph.outputs]
            loss = tf.add_n([tf.reduce_sum(tf.cast(one, tf.float32)) for one in outputs])
        forward = len(traced.get_operations())
        gradients = tape.gradient(loss, watched, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        operations = traced.get_operations()
        place = {operation.name: at for at, operation in enumerate(operations)}
        seen = set()
        for operation in operations[forward:]:
            for tensor in operation.inputs:
                at = place[tensor.op.name]
                if at < forward and tensor.name not in seen and _is_kept(operation, tensor):
                    seen.add(tensor.name)
                    made_by = min(bisect_right(ends, at), len(ends) - 1)
                    kept[made_by] = kept.get(made_by, 0) + tensor.shape.num_elements() * tensor.dtype.size
        return [tf.convert_to_tensor(one) for one in gradients]

    specs = [tf.TensorSpec(one.shape, one.dtype) for one in inputs]
    tf.function(both, autograph=False).get_concrete_function(*specs)
    return [kept.get(at, 0) for at in range(len(graph.steps))]


def _is_kept(reader: Any, tensor: Any) -> bool:
    """Not: weights and constants, which are there anyway; inputs; and tensors of which only the shape is read."""
    if tensor.op.type in ("ReadVariableOp", "Const", "Placeholder") or reader.type in ("Shape", "ShapeN", "ZerosLike"):
        return False
    return tensor.shape.num_elements() is not None and tensor.dtype.size is not None


def _parameter_bytes(graph: Graph, at: int) -> int:
    """Of the step's layer, counted at its first use."""
    layer = graph.steps[at].layer
    if any(step.layer is layer for step in graph.steps[:at]):
        return 0
    from saman.trainers.keras_compat import tf

    return sum(
        int(np.prod(one.shape, dtype=np.int64)) * tf.as_dtype(one.dtype).size
        for one in getattr(layer, "trainable_variables", [])
    )


def _sizes(graph: Graph, inputs: list[Any]) -> dict[int, tuple[int, int]]:
    """Bytes of each tensor (its mask included), and of its gradient."""
    from saman.trainers.pipeline.stage import run_step

    def of(tensor: Any) -> tuple[int, int]:
        plain = int(np.prod(tensor.shape, dtype=np.int64)) * tensor.dtype.size
        mask = getattr(tensor, "_keras_mask", None)
        more = 0 if mask is None else int(np.prod(mask.shape, dtype=np.int64))
        return plain + more, plain if tensor.dtype.is_floating else 0

    values = dict(zip(graph.inputs, inputs, strict=True))
    found = {key: of(one) for key, one in values.items()}
    for step in graph.steps:
        made = dict(zip(step.gives, run_step(step, values, training=True), strict=True))
        values.update(made)
        found.update({key: of(one) for key, one in made.items()})
    return found


def _crossings(graph: Graph, sizes: dict[int, tuple[int, int]]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    keys = [graph.crossing(at) if at else () for at in range(len(graph.steps))]
    forward = tuple(sum(sizes[key][0] for key in here) for here in keys)
    return forward, tuple(sum(sizes[key][1] for key in here) for here in keys)


def _link() -> Link:
    """Latency and bandwidth of the stages' sockets within this machine."""
    from saman.trainers.pipeline.sockets import SocketTransport, pair

    one, other = (SocketTransport({0: connection}) for connection in pair())

    def seconds(size: int) -> float:
        array = np.zeros(size, np.uint8)
        times = []
        for _ in range(15):
            began = time.perf_counter()
            one.send(0, 0, [array])
            other.receive(0, 0)
            times.append(time.perf_counter() - began)
        return statistics.median(times)

    small, large = seconds(64), seconds(4 << 20)
    one.close()
    other.close()
    return Link(small, (4 << 20) / max(1e-9, large - small))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
