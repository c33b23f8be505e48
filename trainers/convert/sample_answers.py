"""The stored validation sample, and the timing of answers to it; needs only numpy."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from saman.runs.records.converter_report import AnswerReport

BATCH = 64
Array = np.ndarray[Any, Any]


_NOT_INPUTS = frozenset({"labels", "ids", "predictions", "training_ids"})


def inputs(file: Path) -> Array:
    """Read the sample's raw inputs for a conversion; raises ``ValueError`` for a model with several inputs."""
    with np.load(file, allow_pickle=False) as stored:
        names = [name for name in stored.files if name not in _NOT_INPUTS]
        if len(names) != 1:
            raise ValueError(
                f"the sample holds {len(names)} inputs ({', '.join(names)}); models with a single input are supported"
            )
        return np.asarray(stored[names[0]])


def batches(values: Array, size: int = BATCH) -> Iterator[Array]:
    """Yield the sample in batches of ``size`` examples for a converted model; the last may be shorter."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def latency_milliseconds(call: Callable[[Array], Any], values: Array, runs: int) -> float | None:
    """Median wall time of a converted model's call for a single example, after five warm-up calls.

    Args:
        call: Answers a batch.
        values: Examples, stacked along the first axis; the first is used.
        runs: Number of calls to time.

    Returns:
        Milliseconds; ``None`` without calls or examples.
    """
    if not runs or not len(values):
        return None
    example = values[:1]
    for _ in range(5):
        call(example)
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        call(example)
        taken.append((time.perf_counter() - start) * 1000)
    return statistics.median(taken)


def write_answers(call: Callable[[Array], Array], values: Array, output: Path, runs: int) -> AnswerReport:
    """Write a converted model's answers to all examples of the sample to a file.

    Args:
        call: Answers a batch.
        values: Examples, stacked along the first axis.
        output: The file to write (.npy).
        runs: Number of calls to time; 0 measures no latency.
    """
    answers = np.concatenate([np.asarray(call(batch)) for batch in batches(values)])
    np.save(output, answers, allow_pickle=False)
    return AnswerReport(len(answers), answers.shape, latency_milliseconds(call, values, runs))
