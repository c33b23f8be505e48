"""Joins requests into batches, and cuts a batch's answers into those of its requests. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Arrays = Mapping[str, Array]
Key = tuple[Any, ...]


def rows_of(inputs: Arrays) -> int:
    """The rows that a request adds to an engine's batch: the common first size of its inputs; 0 without one."""
    rows = -1
    for array in inputs.values():
        size = array.shape[0] if array.ndim else 0
        if rows not in (-1, size):
            return 0
        rows = size
    return max(rows, 0)


def batch_key(signature: str, inputs: Arrays) -> Key | None:
    """What requests must share to be computed together; ``None`` for a request that is computed alone."""
    if not rows_of(inputs):
        return None
    return (signature, *((name, inputs[name].dtype.str, inputs[name].shape[1:]) for name in sorted(inputs)))


def join(requests: Sequence[Arrays]) -> Arrays:
    """The inputs of requests with the same key, examples along the first axis."""
    if len(requests) == 1:
        return requests[0]
    return {name: np.concatenate([request[name] for request in requests]) for name in requests[0]}


def split(outputs: Arrays, rows: Sequence[int]) -> list[Arrays] | None:
    """The answers of each request, ``rows`` examples each.

    Returns:
        ``None`` where an output does not have the batch as its first axis: then each request is computed alone.
    """
    if len(rows) == 1:
        return [outputs]
    if any(rows_of({name: array}) != sum(rows) for name, array in outputs.items()):
        return None
    starts = np.cumsum([0, *rows])
    return [
        {name: array[start : start + count] for name, array in outputs.items()}
        for start, count in zip(starts.tolist(), rows, strict=False)
    ]
