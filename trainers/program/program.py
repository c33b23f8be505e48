"""What is trained: the model, its optimiser and its objective, built under the strategy's scope."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from saman.configs.schemas.training import Train
from saman.trainers import keras_compat
from saman.trainers.keras_compat import keras, tf
from saman.trainers.models import layers
from saman.trainers.program import optimizers
from saman.trainers.program.objective import Objective
from saman.trainers.user_code.context import Context


@dataclass(frozen=True, kw_only=True)
class Program:
    """A model with everything that a step needs.

    Attributes:
        model: The Keras model, or a stage of it.
        optimizer: The Keras optimiser of the model's variables; ``None`` for a model that is not trained.
        objective: Loss and accuracy.
        normalize: Turns raw inputs into what the model takes.
        element_spec: The spec of a batch: (inputs, labels), or (inputs, labels, weights).
        clip_norm: Largest norm of the gradient.
        clip_value: Largest absolute value of a gradient's entries.
        seed: The seed of the run.
        rate_factors: The factor of the learning rate of each trainable variable that has one, by its place.
        average: The moving average of each trainable variable; empty without.
        decay: Of the average.
    """

    model: Any
    optimizer: Any
    objective: Objective
    normalize: Callable[[Any], Any] | None
    element_spec: tuple[Any, ...]
    clip_norm: float | None = None
    clip_value: float | None = None
    seed: int
    rate_factors: Mapping[int, float] = field(default_factory=dict)
    average: tuple[Any, ...] = ()
    decay: float = 0.0

    def normalized(self, inputs: Any) -> Any:
        """Return the model's inputs from raw inputs: normalised, floating values in the precision of the weights."""
        return cast_floating(self.normalize(inputs) if self.normalize else inputs)

    def predict(self, inputs: Any) -> Any:
        """Return the outputs for raw inputs in inference mode."""
        return keras_compat.predict(self.model, self.normalized(inputs))

    def state(self) -> dict[str, np.ndarray]:
        """Return weights and optimiser state by names that depend on the model alone, not on the strategy."""
        return {name: keras_compat.as_array(variable) for name, variable in self.variables().items()}

    def restore(self, state: Mapping[str, np.ndarray], optimizer: bool = True) -> None:
        """Load what ``state()`` returned; without ``optimizer`` the weights and their average.

        Raises:
            KeyError: The state is of another model.
            ValueError: A value has another shape than its variable.
        """
        assign_state(self.variables(), state, optimizer)

    def variables(self) -> dict[str, Any]:
        """Return the variables of weights and optimiser state by the names of ``state()``."""
        weights = {f"weight/{index:04d}": weight for index, weight in enumerate(self.model.weights)}
        slots = keras_compat.optimizer_state(self.optimizer, self.model.trainable_variables)
        averages = {f"average/{index:04d}": average for index, average in enumerate(self.average)}
        return {**weights, **averages, **{f"optimizer/{name}": slot for name, slot in slots.items()}}


def assign_state(variables: Mapping[str, Any], state: Mapping[str, np.ndarray], optimizer: bool) -> None:
    """Assign the values of a state to the program's variables of the same names.

    Args:
        variables: The variables by name.
        state: The values by name; further names are ignored.
        optimizer: Whether to assign the optimiser state too, not only the weights.

    Raises:
        KeyError: The state lacks a variable.
        ValueError: A value has another shape than its variable.
    """
    for name, variable in variables.items():
        if optimizer or not name.startswith("optimizer/"):
            value = state[name]
            if tuple(value.shape) != tuple(variable.shape):
                raise ValueError(f"{name} has shape {value.shape}, but the model's has {tuple(variable.shape)}")
            keras_compat.tensor_of(variable).assign(value)


def cast_floating(values: Any) -> Any:
    """Cast the floating inputs of a program to the precision of its weights."""

    def cast(value: Any) -> Any:
        return tf.cast(value, keras.backend.floatx()) if value.dtype.is_floating else value

    return tf.nest.map_structure(cast, values)


def example_shape(spec: Any) -> Any:
    """Return the shape of an example of a program's inputs: a tuple, or a nest of tuples."""
    return tf.nest.map_structure(lambda part: tuple(part.shape[1:]), spec)


def normalized_spec(spec: Any, normalize: Callable[[Any], Any] | None) -> Any:
    """Return the spec of a program's inputs after ``normalize``."""
    if normalize is None:
        return spec
    return tf.function(normalize, autograph=False).get_concrete_function(spec).structured_outputs


def build(
    train: Train,
    model: Any,
    element_spec: tuple[Any, ...],
    normalize: Callable[[Any], Any] | None,
    objective: Objective | None = None,
    context: Context | None = None,
) -> Program:
    """Return the program of an experiment's ``train`` part; call it under the strategy's scope.

    Args:
        train: The ``train`` part of the experiment.
        model: A built Keras model, or a stage of it.
        element_spec: The spec of a batch: (inputs, labels), or (inputs, labels, weights).
        normalize: Turns raw inputs into what the model takes.
        objective: Loss and metrics, made outside of the strategy's scope; by default the loss alone.
        context: What users' functions may ask for.
    """
    optimizer = optimizers.build(train.optimizer, context)
    trainable = model.trainable_variables
    keras_compat.build_optimizer(optimizer, trainable)
    average = [keras_compat.copy_variable(variable) for variable in trainable] if train.ema else []
    clip = train.clip_gradients
    return Program(
        model=model,
        optimizer=optimizer,
        objective=objective or Objective(train.loss, train.from_logits),
        normalize=normalize,
        element_spec=element_spec,
        clip_norm=clip.global_norm if clip else None,
        clip_value=clip.value if clip else None,
        seed=train.seed,
        rate_factors=layers.rate_factors(train.layer_rates, trainable),
        average=tuple(average),
        decay=train.ema.decay if train.ema else 0.0,
    )
