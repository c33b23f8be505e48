"""The stored validation sample, and the timing of answers to it; needs only numpy."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from saman.runs.records.converter_report import AnswerReport, others_beside

BATCH = 64
FIRST = "outputs"  # the only output, or the first of several, which saman exports under this name too
Array = np.ndarray[Any, Any]
Named = Mapping[str, Array]  # inputs or outputs by name, examples along the first axis


_NOT_INPUTS = frozenset({"labels", "ids", "predictions", "training_ids"})


def inputs(file: Path) -> dict[str, Array]:
    """Read the sample's raw inputs for a conversion, by name."""
    with np.load(file, allow_pickle=False) as stored:
        found = {name: np.asarray(stored[name]) for name in stored.files if name not in _NOT_INPUTS}
    if not found:
        raise ValueError("the sample holds no inputs")
    return found


def examples(values: Named) -> int:
    """Return the number of examples of a sample."""
    return len(next(iter(values.values())))


def batches(values: Named, size: int = BATCH) -> Iterator[dict[str, Array]]:
    """Yield the sample in batches of ``size`` examples for a converted model; the last may be shorter."""
    for start in range(0, examples(values), size):
        yield {name: array[start : start + size] for name, array in values.items()}


def latency_milliseconds(call: Callable[[Named], Any], values: Named, runs: int) -> float | None:
    """Median wall time of a converted model's call for a single example, after five warm-up calls.

    Args:
        call: Answers a batch.
        values: Examples, stacked along the first axis; the first is used.
        runs: Number of calls to time.

    Returns:
        Milliseconds; ``None`` without calls or examples.
    """
    if not runs or not examples(values):
        return None
    example = {name: array[:1] for name, array in values.items()}
    for _ in range(5):
        call(example)
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        call(example)
        taken.append((time.perf_counter() - start) * 1000)
    return statistics.median(taken)


def write_answers(call: Callable[[Named], Named], values: Named, output: Path, runs: int) -> AnswerReport:
    """Write a converted model's answers to all examples of the sample to files.

    Args:
        call: Answers a batch with ``FIRST`` and the other outputs, by name.
        values: Examples, stacked along the first axis.
        output: The file of the first output (.npy); the others stand beside it (``others_beside``), a row per example.
        runs: Number of calls to time.
    """
    answered = [{name: np.asarray(array) for name, array in call(batch).items()} for batch in batches(values)]
    joined = {name: np.concatenate([answers[name] for answers in answered]) for name in answered[0]}
    return replace(save_answers(joined, output), latency_milliseconds=latency_milliseconds(call, values, runs))


def save_answers(answers: Named, output: Path) -> AnswerReport:
    """Save the answers to all examples, as ``write_answers`` does; without a latency."""
    first = answers[FIRST]
    np.save(output, first, allow_pickle=False)
    if others := sorted(set(answers) - {FIRST}):
        rows = [answers[name].reshape(len(first), -1) for name in others]
        np.save(others_beside(output), np.concatenate(rows, 1), allow_pickle=False)
    return AnswerReport(len(first), first.shape, None)
