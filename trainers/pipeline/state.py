"""Names of a stage's weights and optimiser state in the whole model.

They are the names of ``Program.state``: the states of all stages together are the state of the whole model, and a
checkpoint of stages is a checkpoint of the model in several parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from saman.trainers import keras_compat
from saman.trainers.program.program import Program, assign_state


class StageVariables:
    """Maps a stage's variables to their names in the whole model."""

    def __init__(self, model: Any, stage: Any) -> None:
        own = {id(variable) for variable in stage.weights}
        self._weights = {f"weight/{at:04d}": weight for at, weight in enumerate(model.weights) if id(weight) in own}
        places = {id(variable): index for index, variable in enumerate(model.trainable_variables)}
        self._trainable = [places[id(variable)] for variable in stage.trainable_variables]

    def state(self, program: Program) -> LazyArrays:
        """Return the stage's part of the state; values are read when they are used."""
        return LazyArrays(self.variables(program))

    def restore(self, program: Program, state: Mapping[str, np.ndarray], optimizer: bool) -> None:
        """Load the stage's part of a state.

        Args:
            program: The model's program.
            state: The values by name.
            optimizer: Whether to load the optimiser state too.

        Raises:
            KeyError: The state is of another model.
            ValueError: A value has another shape than its variable.
        """
        assign_state(self.variables(program), state, optimizer)

    def variables(self, program: Program) -> dict[str, Any]:
        """Return the stage's variables by their names in the whole model."""
        slots = {}
        state = keras_compat.optimizer_state(program.optimizer, program.model.trainable_variables)
        for name, variable in state.items():
            slot, slash, index = name.partition("/")
            whole = f"{slot}/{self._trainable[int(index)]:04d}" if slash else slot
            slots[f"optimizer/{whole}"] = variable
        return {**self._weights, **slots}


class LazyArrays(Mapping[str, np.ndarray]):
    """Values of variables by name, each read when it is used: a checkpoint holds a single value in memory."""

    def __init__(self, variables: Mapping[str, Any]) -> None:
        self._variables = dict(variables)

    def __getitem__(self, name: str) -> np.ndarray:
        value = self._variables[name]
        return np.asarray(value) if isinstance(value, (np.ndarray, np.generic)) else keras_compat.as_array(value)

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)

    def __or__(self, other: LazyArrays) -> LazyArrays:
        return LazyArrays({**self._variables, **other._variables})
