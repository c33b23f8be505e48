"""The interface of strategies, and what all of them share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

import numpy as np

T = TypeVar("T")
R = TypeVar("R")


class Strategy(Protocol):
    """Says which ranks this process computes, and combines what each rank has computed.

    Attributes:
        name: The strategy's name in experiments.
        size: The number of ranks of the run.
        ranks: The ranks that compute in this process.
        chief: Whether rank 0 computes in this process.
        loops_in_graph: Whether ``combine`` works inside a loop in a graph, so that one call takes many steps.
    """

    name: str
    size: int
    ranks: tuple[int, ...]
    chief: bool
    loops_in_graph: bool

    def scope(self) -> AbstractContextManager[Any]:
        """Return the context in which the model and the optimiser are built."""

    def each_rank(self, function: Callable[[int, T], R], inputs: Sequence[T]) -> list[R]:
        """In a graph, call ``function(i, inputs[i])`` on the device of the i-th rank here."""

    def combine(self, tensors: Sequence[Any]) -> list[Any]:
        """In the graph of a rank, return Σ over all ranks for each tensor."""

    def total(self, values: np.ndarray) -> np.ndarray:
        """Outside of graphs, return Σ over all processes of a float64 vector."""

    def make_identical(self, variables: Sequence[Any]) -> None:
        """Give every rank the chief's values."""

    def close(self) -> None:
        """Leave the other ranks; nothing is combined afterwards."""


def agree(strategy: Strategy, value: float) -> float:
    """Under the strategy, return the chief's ``value`` on every rank; all ranks call it together."""
    return float(strategy.total(np.array([value if strategy.chief else 0.0]))[0])


def group_by_type(tensors: Sequence[Any]) -> list[list[int]]:
    """Return the indices of the tensors of each dtype, in the same order on all ranks."""
    names = sorted({tensor.dtype.name for tensor in tensors})
    return [[index for index, tensor in enumerate(tensors) if tensor.dtype.name == name] for name in names]


def plan_exchange(tensors: Sequence[Any], limit: int) -> list[list[int]]:
    """Return groups of indices of tensors: each group has a dtype, about ``limit`` bytes, and is a message."""
    groups = []
    for places in group_by_type(tensors):
        sizes = [(tensors[place].shape.num_elements() or 1) * tensors[place].dtype.size for place in places]
        groups += [[places[index] for index in bucket] for bucket in plan_buckets(sizes, limit)]
    return groups


def plan_buckets(sizes: Sequence[int], limit: int) -> list[list[int]]:
    """Group a strategy's tensors of ``sizes`` bytes into exchanged buckets of about ``limit`` bytes, the last first.

    Gradients of the last layers are ready first; a bucket is exchanged while earlier layers still compute
    (Li et al. 2020, PyTorch DDP, section 3.2.3).

    Returns:
        The indices of the tensors in each bucket.

    Example:
        >>> plan_buckets([10, 10, 30], limit=40)
        [[2, 1], [0]]
    """
    buckets: list[list[int]] = []
    filled = limit
    for index in reversed(range(len(sizes))):
        if filled + sizes[index] > limit:
            buckets.append([])
            filled = 0
        buckets[-1].append(index)
        filled += sizes[index]
    return buckets
