"""Names of a stage's weights and optimiser in the whole model, so that the stages' states together are the model's.

They are the names that ``Program.state`` gives: a checkpoint of stages is one of the whole model, cut into parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from saman.trainers import keras_compat
from saman.trainers.program import Program


class Names:
    """Where a stage's variables stand in the whole model."""

    def __init__(self, model: Any, stage: Any) -> None:
        mine = {id(variable) for variable in stage.weights}
        self._weights = {
            f"weight/{index:04d}": one
            for index, one in enumerate(model.weights)
            if id(one) in mine
        }
        places = {id(variable): index for index, variable in enumerate(model.trainable_variables)}
        self._trainable = [places[id(variable)] for variable in stage.trainable_variables]

    def state(self, program: Program) -> dict[str, np.ndarray]:
        """This stage's part of the state."""
        return {name: keras_compat.as_array(variable) for name, variable in self._variables(program).items()}

    def restore(self, program: Program, state: Mapping[str, np.ndarray], optimizer: bool) -> None:
        """Take over this stage's part of ``state``; raises ``KeyError`` or ``ValueError`` for another model's."""
        for name, variable in self._variables(program).items():
            if optimizer or name.startswith("weight/"):
                value = state[name]
                if tuple(value.shape) != tuple(variable.shape):
                    raise ValueError(f"{name} has shape {value.shape}, the model's has {tuple(variable.shape)}")
                keras_compat.tensor_of(variable).assign(value)

    def _variables(self, program: Program) -> dict[str, Any]:
        held = keras_compat.optimizer_state(program.optimizer, program.model.trainable_variables)
        slots = {}
        for name, variable in held.items():
            kind, slash, index = name.partition("/")
            whole = f"{kind}/{self._trainable[int(index)]:04d}" if slash else kind
            slots[f"optimizer/{whole}"] = variable
        return {**self._weights, **slots}


def merged(states: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The union of the stages' states."""
    return {name: value for state in states for name, value in state.items()}
