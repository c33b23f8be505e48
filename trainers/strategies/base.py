"""What the loop asks of a strategy, and what all strategies share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

import numpy as np

T = TypeVar("T")
R = TypeVar("R")


class Strategy(Protocol):
    """Who this process is among the ranks, and how ranks combine what each has computed."""

    name: str
    size: int  # ranks in the run
    ranks: tuple[int, ...]  # those that compute in this process
    chief: bool  # whether rank 0 is in this process

    def scope(self) -> AbstractContextManager[Any]:
        """Where the model and the optimiser are built."""

    def each_rank(self, function: Callable[[int, T], R], inputs: Sequence[T]) -> list[R]:
        """In a graph: ``function(i, inputs[i])`` on the device of each rank here; ``R`` is a nest of tensors."""

    def combine(self, tensors: Sequence[Any]) -> list[Any]:
        """In the graph of one rank: Σ over all ranks, for each tensor."""

    def total(self, values: np.ndarray) -> np.ndarray:
        """Outside of graphs: Σ over all processes of a float64 vector."""

    def make_identical(self, variables: Sequence[Any]) -> None:
        """Give every rank the chief's values."""

    def close(self) -> None:
        """Leave; nothing is combined any more."""


def agreed(strategy: Strategy, value: float) -> float:
    """The chief's ``value``, on every rank; a call that all ranks make."""
    return float(strategy.total(np.array([value if strategy.chief else 0.0]))[0])


def buckets(sizes: Sequence[int], limit: int) -> list[list[int]]:
    """Indices of tensors in buckets of about ``limit`` bytes, last tensor first.

    Gradients of the last layers are ready first; a bucket is exchanged while earlier layers still compute
    (Li et al. 2020, PyTorch DDP, section 3.2.3).
    """
    found: list[list[int]] = []
    filled = limit
    for index in reversed(range(len(sizes))):
        if filled + sizes[index] > limit:
            found.append([])
            filled = 0
        found[-1].append(index)
        filled += sizes[index]
    return found
