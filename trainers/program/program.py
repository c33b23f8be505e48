"""What is trained: the model, its optimiser and its objective, built under the strategy's scope."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from saman.trainers import keras_compat
from saman.trainers.keras_compat import keras, tf
from saman.trainers.program import optimizers
from saman.trainers.program.objective import Objective


@dataclass(frozen=True)
class Program:
    """A model with everything that a step needs to know; ``element_spec`` is that of a batch (inputs, labels)."""

    model: Any
    optimizer: Any
    objective: Objective
    normalize: Callable[[Any], Any] | None
    element_spec: tuple[Any, Any]
    clip_norm: float | None
    clip_value: float | None
    seed: int

    def normalized(self, inputs: Any) -> Any:
        """What the model takes, of raw inputs: normalised, and floating in the precision of the weights."""
        values = self.normalize(inputs) if self.normalize else inputs

        def widened(value: Any) -> Any:
            return tf.cast(value, keras.backend.floatx()) if value.dtype.is_floating else value

        return tf.nest.map_structure(widened, values)

    def predict(self, inputs: Any) -> Any:
        """Outputs for raw inputs, in inference mode."""
        return keras_compat.predict(self.model, self.normalized(inputs))

    @property
    def weights(self) -> list[Any]:
        """Everything that belongs to the trained model: trainable weights and moving statistics."""
        return list(self.model.weights)

    def state(self) -> dict[str, np.ndarray]:
        """Weights and optimiser by names that depend on the model alone, not on the strategy."""
        return {name: keras_compat.as_array(variable) for name, variable in self._variables().items()}

    def restore(self, state: Mapping[str, np.ndarray], optimizer: bool = True) -> None:
        """Take over what ``state`` gave; without ``optimizer`` the weights alone.

        Raises ``KeyError`` or ``ValueError`` where the state is of another model.
        """
        for name, variable in self._variables().items():
            if optimizer or name.startswith("weight/"):
                value = state[name]
                if tuple(value.shape) != tuple(variable.shape):
                    raise ValueError(f"{name} has shape {value.shape}, the model's has {tuple(variable.shape)}")
                keras_compat.tensor_of(variable).assign(value)

    def _variables(self) -> dict[str, Any]:
        weights = {f"weight/{index:04d}": one for index, one in enumerate(self.model.weights)}
        slots = keras_compat.optimizer_state(self.optimizer, self.model.trainable_variables)
        return {**weights, **{f"optimizer/{name}": one for name, one in slots.items()}}


def input_shape(program_input: Any) -> Any:
    """Shapes of one example, without the batch axis: a tuple, or a nest of them."""
    return tf.nest.map_structure(lambda one: tuple(one.shape[1:]), program_input)


def normalized_spec(spec: Any, normalize: Callable[[Any], Any] | None) -> Any:
    """The spec of a batch of inputs after ``normalize``."""
    if normalize is None:
        return spec
    return tf.function(normalize, autograph=False).get_concrete_function(spec).structured_outputs


def build(train: Any, model: Callable[[], Any], element_spec: tuple[Any, Any], normalize: Any) -> Program:
    """The program of an experiment's ``train`` part; call it under the strategy's scope."""
    built = model()
    optimizer = optimizers.build(train.optimizer)
    keras_compat.build_optimizer(optimizer, built.trainable_variables)
    clip = train.clip_gradients
    return Program(
        model=built,
        optimizer=optimizer,
        objective=Objective(train.loss, train.from_logits),
        normalize=normalize,
        element_spec=element_spec,
        clip_norm=clip.global_norm if clip else None,
        clip_value=clip.value if clip else None,
        seed=train.seed,
    )
