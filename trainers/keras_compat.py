"""Differences between Keras 2 (TensorFlow 2.15) and Keras 3 (TensorFlow ≥ 2.16), and their private hooks.

Import this module before TensorFlow or Keras: it forces Keras' TensorFlow backend. ``trainers/pipeline/graph.py``
reads the graphs of both.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from saman.configs.errors import UserError

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
if not KERAS_2 and keras.backend.backend() != "tensorflow":  # Keras was imported earlier, with another backend
    raise ImportError(f"Keras runs on {keras.backend.backend()!r}; saman needs KERAS_BACKEND=tensorflow")

SLOTS = ("momentums", "velocities")  # variables that the optimisers of an experiment keep for each weight


@dataclass(frozen=True)
class ForwardPass:
    """The results of a forward pass in training mode.

    Attributes:
        outputs: The model's outputs.
        losses: The losses that layers add, such as regularisers.
        moved: New value − old value of each moving statistic, in the order of ``moving_statistics(model)``.
    """

    outputs: Any
    losses: list[Any]
    moved: list[Any]

    def added_loss(self) -> Any:
        """Return the sum of the losses that layers add, a float64 scalar."""
        return sum((tf.cast(tf.reduce_sum(loss), tf.float64) for loss in self.losses), tf.zeros([], tf.float64))


def start_session(seed: int, precision: str) -> None:
    """Reset Keras: seed it, set the precision of the layers to build, number their names from the start."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    keras.backend.set_floatx("float64" if precision == "float64" else "float32")
    if KERAS_2:
        keras.mixed_precision.set_global_policy(precision)
    else:
        keras.config.set_dtype_policy(precision)


def tensor_of(variable: Any) -> Any:
    """Return the ``tf.Variable`` (or distributed variable) of a Keras variable."""
    return variable if KERAS_2 else variable.value


def all_layers(model: Any) -> list[Any]:
    """Return every layer at any depth, in a fixed order, on Keras 2 and 3."""
    return list(model._flatten_layers(include_self=True, recursive=True))


def name_of(variable: Any) -> str:
    """Return the name of a Keras 2 or 3 variable with that of its layer, such as ``dense/kernel``."""
    return str(variable.name.split(":")[0] if KERAS_2 else variable.path)


def moving_statistics(model: Any) -> list[Any]:
    """Return the floating variables that a pass of Keras 2 or 3 may change, such as BatchNorm's moving mean.

    The variables of frozen layers are not among them.
    """
    found: dict[int, Any] = {}
    for layer in all_layers(model):
        if layer.trainable:
            for variable in layer._non_trainable_variables if not KERAS_2 else layer._non_trainable_weights:
                if tf.as_dtype(variable.dtype).is_floating:
                    found[id(variable)] = variable
    return [variable for variable in model.non_trainable_weights if id(variable) in found]


def random_sources(model: Any) -> list[Any]:
    """Return what the model's random layers draw from: seed states of Keras 3, random generators of Keras 2."""
    if KERAS_2:
        generators = (getattr(layer, "_random_generator", None) for layer in all_layers(model))
        unique = {id(generator): generator for generator in generators if generator is not None}
        return list(unique.values())
    return [variable for variable in model.non_trainable_variables if variable.name == "seed_generator_state"]


def forward(model: Any, inputs: Any, seeds: Sequence[Any]) -> ForwardPass:
    """Run a training pass of a Keras 2 or 3 model under the caller's tape, without changing any variable.

    Args:
        model: The Keras model.
        inputs: The model's inputs.
        seeds: An int32[2] tensor for each of ``random_sources(model)``.
    """
    return (_forward_2 if KERAS_2 else _forward_3)(model, inputs, seeds)


def _forward_3(model: Any, inputs: Any, seeds: Sequence[Any]) -> ForwardPass:
    moving = {id(variable): index for index, variable in enumerate(moving_statistics(model))}
    seeded = {id(source): seed for source, seed in zip(random_sources(model), seeds, strict=True)}
    before = [
        tf.cast(seeded[id(variable)], variable.dtype)
        if id(variable) in seeded
        else tf.convert_to_tensor(variable.value)
        for variable in model.non_trainable_variables
    ]
    trainable = [variable.value for variable in model.trainable_variables]
    outputs, after, losses = model.stateless_call(trainable, before, inputs, training=True, return_losses=True)
    moved: list[Any] = [None] * len(moving)
    for variable, old, new in zip(model.non_trainable_variables, before, after, strict=True):
        if id(variable) in moving:
            moved[moving[id(variable)]] = tf.convert_to_tensor(new) - old
    return ForwardPass(outputs, list(losses), moved)


def _forward_2(model: Any, inputs: Any, seeds: Sequence[Any]) -> ForwardPass:
    for generator, seed in zip(random_sources(model), seeds, strict=True):
        _draw_from(generator, seed)
    variables = moving_statistics(model)
    before = [tf.identity(variable) for variable in variables]
    outputs = model(inputs, training=True)
    losses = list(model.losses)
    moved = [tf.identity(variable) - old for variable, old in zip(variables, before, strict=True)]
    with tf.control_dependencies(moved):
        for variable, old in zip(variables, before, strict=True):
            variable.assign(old)
    return ForwardPass(outputs, losses, moved)


def _draw_from(generator: Any, seed: Any) -> None:
    """Make a Keras 2 random generator draw statelessly from ``seed``: its n-th draw folds n into the seed."""
    draws = iter(range(sys.maxsize))
    generator._rng_type = generator.RNG_STATELESS
    generator._built = True
    generator.make_seed_for_stateless_op = lambda: tf.random.experimental.stateless_fold_in(seed, next(draws))


def build_without_values(build: Callable[[], Any]) -> Any:
    """Build a Keras 2 or 3 model without values of its variables, so that a rank holds those of its own stage alone.

    With Keras 2, and if the user's function assigns values itself, the variables have their values.
    """
    if KERAS_2:
        return build()
    from keras import StatelessScope
    from keras.src.backend.common import global_state

    try:
        with StatelessScope(initialize_variables=False) as scope:
            model = build()
        complete = not scope.state_mapping
    except UserError:
        raise
    except Exception:  # the user's function does what such a scope forbids
        complete = False
    # Otherwise Keras would give all of them values at the next opportunity.
    global_state.set_global_attribute("uninitialized_variables", [])
    if complete:
        return model
    keras.backend.clear_session()
    return build()


def initialize_values(model: Any) -> None:
    """Give a Keras 2 or 3 model's variables without values their initial values, which depend on their layer alone."""
    if not KERAS_2:
        for variable in model.variables:
            if variable._value is None:
                variable._deferred_initialize()


def predict(model: Any, inputs: Any) -> Any:
    """Return a Keras 2 or 3 model's outputs in inference mode, in the caller's graph."""
    return model(inputs, training=False)


def build_optimizer(optimizer: Any, variables: Sequence[Any]) -> None:
    """Create the variables of a Keras 2 or 3 optimiser under the strategy's scope; switch off its sum over replicas.

    The loop combines gradients exactly once; a second sum by Keras would count every gradient again.
    """
    optimizer.build(list(variables))
    if not KERAS_2:
        if not hasattr(type(optimizer), "_all_reduce_sum_gradients"):
            raise ImportError(f"saman does not know where Keras {VERSION} sums gradients; use a tested version")
        optimizer._all_reduce_sum_gradients = lambda grads_and_vars: grads_and_vars


def apply(optimizer: Any, gradients: Sequence[Any], variables: Sequence[Any]) -> None:
    """Take an optimiser step on Keras 2 or 3 with gradients that are already combined; call it on each replica.

    Args:
        optimizer: The Keras optimiser.
        gradients: A gradient for each variable.
        variables: The variables, in the same order.
    """
    if KERAS_2:
        optimizer.apply_gradients(zip(gradients, variables, strict=True), skip_gradients_aggregation=True)
    else:
        optimizer.apply(list(gradients), list(variables))


def rate_variable(optimizer: Any) -> Any:
    """Return the ``tf.Variable`` of the learning rate, on Keras 2 and 3."""
    return tensor_of(optimizer._learning_rate)


def optimizer_state(optimizer: Any, variables: Sequence[Any]) -> dict[str, Any]:
    """Return the variables of a Keras 2 or 3 optimiser but the rate, which is a function of the step.

    They are ``iterations``, ``<slot>/<index of the variable>``, and for other optimisers ``variable/<number>``.
    """
    state = {"iterations": optimizer.iterations}
    for slot in SLOTS:
        held = getattr(optimizer, slot, None) or getattr(optimizer, f"_{slot}", None) or []
        state.update({f"{slot}/{index:04d}": variable for index, variable in enumerate(held)})
    known = {id(tensor_of(variable)) for variable in state.values()} | {id(rate_variable(optimizer))}
    more = [variable for variable in optimizer.variables if id(tensor_of(variable)) not in known]
    return {**state, **{f"variable/{index:04d}": variable for index, variable in enumerate(more)}}


def copy_variable(variable: Any) -> Any:
    """Return a new variable of Keras 2 or 3 that is not trained, with the value and the type of another."""
    if KERAS_2:
        return tf.Variable(variable, trainable=False, name="average")
    return keras.Variable(variable.value, dtype=variable.dtype, trainable=False, name="average")


def output_spec(model: Any, inputs: Any) -> Any:
    """Return the spec of a Keras 2 or 3 model's outputs for a batch of inputs of a spec."""
    outputs = getattr(model, "outputs", None)
    if outputs is not None and len(outputs) == 1:
        return tf.TensorSpec(outputs[0].shape, outputs[0].dtype)
    call = tf.function(lambda values: model(values, training=False), autograph=False)
    return call.get_concrete_function(inputs).structured_outputs


def make_deterministic() -> None:
    """Let TensorFlow compute equal bits for equal inputs, also where that is slower, under Keras 2 and 3."""
    tf.config.experimental.enable_op_determinism()


def as_array(variable: Any) -> np.ndarray:
    """Return a Keras 2 or 3 value on this process's first device, without asking other processes."""
    value = tensor_of(variable)
    local = tf.distribute.get_strategy().experimental_local_results(value)
    return np.asarray(getattr(value, "values", local)[0])
