"""Names of a stage's weights and optimiser in the whole model, so that the stages' states together are the model's.

They are the names that ``Program.state`` gives: a checkpoint of stages is one of the whole model, cut into parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from saman.trainers import keras_compat
from saman.trainers.program.program import Program


class Names:
    """Where a stage's variables stand in the whole model."""

    def __init__(self, model: Any, stage: Any) -> None:
        mine = {id(variable) for variable in stage.weights}
        self._weights = {f"weight/{index:04d}": one for index, one in enumerate(model.weights) if id(one) in mine}
        places = {id(variable): index for index, variable in enumerate(model.trainable_variables)}
        self._trainable = [places[id(variable)] for variable in stage.trainable_variables]

    def state(self, program: Program) -> Lazily:
        """This stage's part of the state; an array is made when it is asked for."""
        return Lazily(self._variables(program))

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


class Lazily(Mapping[str, np.ndarray]):
    """Values of variables by name, read one at a time: a checkpoint then needs memory for one of them."""

    def __init__(self, variables: Mapping[str, Any]) -> None:
        self._variables = dict(variables)

    def __getitem__(self, name: str) -> np.ndarray:
        held = self._variables[name]
        return np.asarray(held) if isinstance(held, (np.ndarray, np.generic)) else keras_compat.as_array(held)

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)

    def joined(self, other: Lazily | Mapping[str, np.ndarray]) -> Lazily:
        """Both."""
        more = other._variables if isinstance(other, Lazily) else other
        return Lazily({**self._variables, **more})
