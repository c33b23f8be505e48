"""The stored validation sample, and how answers to it are timed; needs numpy alone."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

BATCH = 64
Array = np.ndarray[Any, Any]


_NOT_INPUTS = frozenset({"labels", "ids", "predictions", "training_ids"})


def inputs(file: Path) -> Array:
    """The raw inputs of a model with one input, examples first. Raises ``ValueError`` for several."""
    with np.load(file, allow_pickle=False) as stored:
        names = [name for name in stored.files if name not in _NOT_INPUTS]
        if len(names) != 1:
            raise ValueError(
                f"the sample holds {len(names)} inputs ({', '.join(names)}); models of 1 input are converted"
            )
        return np.asarray(stored[names[0]])


def batches(values: Array, size: int = BATCH) -> Iterator[Array]:
    """``values`` in pieces of ``size`` examples, the last one shorter."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def latency_milliseconds(call: Callable[[Array], Any], values: Array, runs: int) -> float | None:
    """Median wall time of ``call`` with one example, after a few calls that do not count."""
    if not runs or not len(values):
        return None
    one = values[:1]
    for _ in range(5):
        call(one)
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        call(one)
        taken.append((time.perf_counter() - start) * 1000)
    return statistics.median(taken)


def answered(call: Callable[[Array], Array], values: Array, output: Path, runs: int) -> dict[str, Any]:
    """Write the answers to all examples to ``output`` (.npy) and tell their shape and the latency of one."""
    answers = np.concatenate([np.asarray(call(batch)) for batch in batches(values)])
    np.save(output, answers, allow_pickle=False)
    latency = latency_milliseconds(call, values, runs)
    return {"examples": len(answers), "shape": list(answers.shape), "latency_milliseconds": latency}
