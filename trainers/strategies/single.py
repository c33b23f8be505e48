"""A single rank in a single process: the reference for every other strategy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from saman.configs.schemas.experiment import Experiment
from saman.runs.folder import RunFolder
from saman.trainers.strategies.base import R, T
from saman.trainers.strategies.devices import claim


class SingleStrategy:
    """The only rank: sums are its own values."""

    name = "single"
    size = 1
    ranks: tuple[int, ...] = (0,)
    chief = True
    loops_in_graph = True

    def scope(self) -> AbstractContextManager[Any]:
        """Return an empty context."""
        return nullcontext()

    def each_rank(self, function: Callable[[int, T], R], inputs: Sequence[T]) -> list[R]:
        """Call ``function`` for rank 0."""
        return [function(0, inputs[0])]

    def combine(self, tensors: Sequence[Any]) -> list[Any]:
        """Return the tensors: there is no other rank."""
        return list(tensors)

    def total(self, values: np.ndarray) -> np.ndarray:
        """Return the values: there is no other rank."""
        return values

    def make_identical(self, variables: Sequence[Any]) -> None:
        """Do nothing: there is no other rank."""

    def close(self) -> None:
        """Do nothing: nothing was opened."""


def start(experiment: Experiment, run: RunFolder) -> SingleStrategy:
    """Claim the device of the only rank."""
    claim(1, experiment.resources.gpus_per_rank)
    return SingleStrategy()
