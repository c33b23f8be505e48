"""Snapshots of variables: values that later steps do not change, taken without copying them at once.

A value that TensorFlow has read shares the memory of its variable. The next update finds that somebody holds it, and
writes to new memory instead (``PrepareToUpdateVariable`` in ``tensorflow/core/kernels``). So a snapshot costs the
training a copy of what is not written yet by then, made by the threads of the update; values on GPUs are copied to the
host at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from saman.runs.checkpoints.shares import ArraySize, divide, share_of
from saman.trainers.keras_compat import tensor_of, tf


class VariableSnapshot:
    """Reads the values of a program's variables by name, in one call of a graph."""

    def __init__(self, variables: Mapping[str, Any]) -> None:
        self._names = list(variables)
        self._variables = [_first_local(_tensor_variable(variable)) for variable in variables.values()]
        self._read = tf.function(self._values, autograph=False)

    def __call__(self) -> dict[str, np.ndarray]:
        """Return the values as they are now; each lives as long as its array."""
        values = self._read() if self._variables else []
        return {name: np.asarray(value) for name, value in zip(self._names, values, strict=True)}

    def _values(self) -> list[Any]:
        values = []
        for variable in self._variables:
            with tf.device(_host_of(variable.device)):
                values.append(tf.identity(variable))
        return values


class SharedSnapshot:
    """Reads this process's share of the variables of a program whose values are equal on all processes.

    Attributes:
        part: The share that this process writes; ``None`` for none.
        parts: The number of shares.
        divided: The shape of each variable that is written in pieces.
    """

    def __init__(self, variables: Mapping[str, Any], process: int, processes: int) -> None:
        shares = divide(array_sizes(variables), processes)
        self.part, self.parts = share_of(process, processes, len(shares)), len(shares)
        self._pieces = shares[self.part or 0]
        self._read = VariableSnapshot({piece.name: variables[piece.name] for piece in self._pieces})
        names = [piece.name for share in shares for piece in share if not piece.whole]
        self.divided: Mapping[str, tuple[int, ...]] = {name: tuple(map(int, variables[name].shape)) for name in names}

    def __call__(self) -> dict[str, np.ndarray]:
        """Return the values as they are now, under the labels of their pieces."""
        values = self._read()
        return {piece.label: piece.of(values[piece.name]) for piece in self._pieces}


def array_sizes(variables: Mapping[str, Any]) -> dict[str, ArraySize]:
    """Return the size of each variable's value in a snapshot."""
    tensors = {name: _tensor_variable(variable) for name, variable in variables.items()}
    return {
        name: ArraySize(int(np.prod(tensor.shape, dtype=np.int64)), int(tf.as_dtype(tensor.dtype).size))
        for name, tensor in tensors.items()
    }


def _tensor_variable(variable: Any) -> Any:
    return variable if isinstance(variable, tf.Variable) else tensor_of(variable)  # the loss scale is none of Keras


def _host_of(device: str) -> str:
    """Return the CPU beside a device, of the same process: a strategy's functions see those of other processes too.

    >>> _host_of("/job:worker/replica:0/task:1/device:GPU:3")
    '/job:worker/replica:0/task:1/device:CPU:0'
    """
    spec = tf.DeviceSpec.from_string(device)
    if spec.device_type in (None, "CPU"):
        return device
    return str(spec.replace(device_type="CPU", device_index=0).to_string())


def _first_local(variable: Any) -> Any:
    """Return the variable of this process's first replica."""
    values = getattr(variable, "values", None)
    return variable if values is None else values[0]
