"""Everything in which Keras 2 (TensorFlow 2.15) and Keras 3 (TensorFlow ≥ 2.16) differ, and their private hooks.

Import this module before anything else of TensorFlow or Keras; it forces Keras' TensorFlow backend.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

import numpy as np
import tensorflow

tf: Any = tensorflow


def _legacy() -> bool:
    return os.environ.get("TF_USE_LEGACY_KERAS", "0").lower() in ("1", "true") and tf.__version__ >= "2.16"


keras: Any = tf.keras
KERAS_2: bool = not hasattr(keras, "ops")
VERSION: str = keras.__version__ if not KERAS_2 else version("tf_keras" if _legacy() else "keras")
if not KERAS_2 and keras.backend.backend() != "tensorflow":  # somebody imported Keras before us
    raise ImportError(f"Keras runs on {keras.backend.backend()!r}; saman needs KERAS_BACKEND=tensorflow")

SLOTS = ("momentums", "velocities")  # what the optimisers of an experiment keep per variable


@dataclass(frozen=True)
class Passed:
    """What one forward pass in training mode gave: outputs, layer-added losses, and how statistics moved."""

    outputs: Any
    losses: list[Any]
    moved: list[Any]  # new value - old value, in the order of ``statistics(model)``


def begin(seed: int, precision: str) -> None:
    """Seed everything, set the precision that layers are built with, and count layers' names from the start."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    keras.backend.set_floatx("float64" if precision == "float64" else "float32")
    if KERAS_2:
        keras.mixed_precision.set_global_policy(precision)
    else:
        keras.config.set_dtype_policy(precision)


def tensor_of(variable: Any) -> Any:
    """The ``tf.Variable`` (or distributed variable) of a Keras variable."""
    return variable if KERAS_2 else variable.value


def name_of(variable: Any) -> str:
    """The variable's name with its layer's."""
    return str(variable.name.partition(":")[0] if KERAS_2 else variable.path)


def layers(model: Any) -> list[Any]:
    """Every layer at any depth, in a fixed order."""
    return list(model._flatten_layers(include_self=True, recursive=True))


def statistics(model: Any) -> list[Any]:
    """Floating variables that a forward pass may change, such as BatchNorm's moving mean; frozen layers' are not."""
    found: dict[int, Any] = {}
    for layer in layers(model):
        if layer.trainable:
            for variable in layer._non_trainable_variables if not KERAS_2 else layer._non_trainable_weights:
                if tf.as_dtype(variable.dtype).is_floating:
                    found[id(variable)] = variable
    return [variable for variable in model.non_trainable_weights if id(variable) in found]


def random_sources(model: Any) -> list[Any]:
    """Where the model's random layers draw from: Keras 3's seed states, Keras 2's random generators."""
    if KERAS_2:
        generators = (getattr(layer, "_random_generator", None) for layer in layers(model))
        unique = {id(one): one for one in generators if one is not None}
        return list(unique.values())
    return [variable for variable in model.non_trainable_variables if variable.name == "seed_generator_state"]


def forward(model: Any, inputs: Any, seeds: Sequence[Any]) -> Passed:
    """One pass in training mode in the graph of the caller's tape; it changes no variable.

    ``seeds`` holds one int32[2] tensor per source of ``random_sources(model)``.
    """
    return (_forward_2 if KERAS_2 else _forward_3)(model, inputs, seeds)


def _forward_3(model: Any, inputs: Any, seeds: Sequence[Any]) -> Passed:
    moving = {id(variable): index for index, variable in enumerate(statistics(model))}
    seeded = {id(source): seed for source, seed in zip(random_sources(model), seeds, strict=True)}
    before = [
        tf.cast(seeded[id(one)], one.dtype) if id(one) in seeded else tf.convert_to_tensor(one.value)
        for one in model.non_trainable_variables
    ]
    trainable = [variable.value for variable in model.trainable_variables]
    outputs, after, losses = model.stateless_call(trainable, before, inputs, training=True, return_losses=True)
    moved: list[Any] = [None] * len(moving)
    for variable, old, new in zip(model.non_trainable_variables, before, after, strict=True):
        if id(variable) in moving:
            moved[moving[id(variable)]] = tf.convert_to_tensor(new) - old
    return Passed(outputs, list(losses), moved)


def _forward_2(model: Any, inputs: Any, seeds: Sequence[Any]) -> Passed:
    for generator, seed in zip(random_sources(model), seeds, strict=True):
        _draw_from(generator, seed)
    variables = statistics(model)
    before = [tf.identity(variable) for variable in variables]
    outputs = model(inputs, training=True)
    losses = list(model.losses)
    moved = [tf.identity(variable) - old for variable, old in zip(variables, before, strict=True)]
    with tf.control_dependencies(moved):
        for variable, old in zip(variables, before, strict=True):
            variable.assign(old)
    return Passed(outputs, losses, moved)


def _draw_from(generator: Any, seed: Any) -> None:
    """Make a Keras 2 random generator draw statelessly from ``seed``: its n-th draw folds n into it."""
    draws = iter(range(sys.maxsize))
    generator._rng_type = generator.RNG_STATELESS
    generator._built = True
    generator.make_seed_for_stateless_op = lambda: tf.random.experimental.stateless_fold_in(seed, next(draws))


def predict(model: Any, inputs: Any) -> Any:
    """Outputs in inference mode, in the caller's graph."""
    return model(inputs, training=False)


def build_optimizer(optimizer: Any, variables: Sequence[Any]) -> None:
    """Create the optimiser's variables now, under the strategy's scope; it will never sum gradients itself.

    The loop combines gradients exactly once; Keras' own cross-replica sum would pay and count it again.
    """
    optimizer.build(list(variables))
    if not KERAS_2:
        if not hasattr(type(optimizer), "_all_reduce_sum_gradients"):
            raise ImportError(f"Keras {VERSION} sums gradients in a place that saman does not know")
        optimizer._all_reduce_sum_gradients = lambda grads_and_vars: grads_and_vars


def apply(optimizer: Any, gradients: Sequence[Any], variables: Sequence[Any]) -> None:
    """One optimiser step with gradients that are already combined; call it on each replica."""
    if KERAS_2:
        optimizer.apply_gradients(zip(gradients, variables, strict=True), skip_gradients_aggregation=True)
    else:
        optimizer.apply(list(gradients), list(variables))


def rate_variable(optimizer: Any) -> Any:
    """The ``tf.Variable`` of the learning rate."""
    return tensor_of(optimizer._learning_rate)


def optimizer_state(optimizer: Any, variables: Sequence[Any]) -> dict[str, Any]:
    """The optimiser's variables: ``iterations``, and ``<slot>/<index of the model's variable>``."""
    state = {"iterations": optimizer.iterations}
    for slot in SLOTS:
        held = getattr(optimizer, slot, None) or getattr(optimizer, f"_{slot}", None) or []
        state.update({f"{slot}/{index:04d}": one for index, one in enumerate(held)})
    known = {id(tensor_of(one)) for one in state.values()}
    forgotten = [one for one in optimizer.variables if id(tensor_of(one)) not in known]
    if len(forgotten) > 1:  # the learning rate, a function of the step, is not state
        raise NotImplementedError(f"variables of {optimizer.name} that a checkpoint would miss: {forgotten}")
    return state


def save_keras_file(model: Any, path: Path) -> None:
    """Write ``model.keras``."""
    model.save(str(path))


def load_keras_file(path: Path) -> Any:
    """The model of a ``.keras`` file, without its optimiser."""
    return keras.models.load_model(str(path), compile=False)


def save_serving(model: Any, path: Path, serve: Callable[..., Any], signature: Sequence[Any]) -> None:
    """Write a SavedModel whose serving signature is ``serve``, which takes ``signature`` (named TensorSpecs)."""
    module = tf.Module()
    module.variables_ = [tensor_of(variable) for variable in model.variables]
    module.serve = tf.function(serve, input_signature=list(signature), autograph=False)
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})


def load_serving(path: Path) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    """The serving signature of a SavedModel. Keras 3's ``load_model`` refuses one, so TensorFlow loads it."""
    loaded = tf.saved_model.load(str(path))
    function = loaded.signatures["serving_default"]
    function._keep = loaded  # the signature does not hold its variables alive
    return lambda inputs: function(**inputs)


def as_array(variable: Any) -> np.ndarray:
    """The value on this process's first device; never a collective read."""
    value = tensor_of(variable)
    local = tf.distribute.get_strategy().experimental_local_results(value)
    return np.asarray(getattr(value, "values", local)[0])
