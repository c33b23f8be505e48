"""What a ``tf.data`` dataset without random access costs: every rank reads all of it in every epoch."""

from __future__ import annotations

import time
from typing import Any

MEASURED_SECONDS = 0.3
_AT_ONCE = 64


def examples_per_second(dataset: Any) -> float:
    """Measure how fast this process reads a dataset, without shuffling and mapping, for a fraction of a second."""
    numbered = dataset.map(lambda *_: 0).batch(_AT_ONCE)
    began, read = time.perf_counter(), 0
    for batch in numbered:
        read += int(batch.shape[0])
        if time.perf_counter() - began > MEASURED_SECONDS:
            break
    return read / max(time.perf_counter() - began, 1e-9)


def describe_cost(examples: int, rate: float) -> str:
    """Describe the cost of reading a dataset in every epoch on every rank.

    Args:
        examples: The number of examples.
        rate: Examples per second of one process.

    >>> describe_cost(200_000, 100_000.0)[:88]
    'the training data have no random access: in every epoch each rank reads all 200,000 exam'
    """
    return (
        f"the training data have no random access: in every epoch each rank reads all {examples:,} examples, measured "
        f"at {rate:,.3g} examples/s, so an epoch takes at least {examples / rate:,.2g} s on any number of ranks; "
        "RandomAccess reads only a rank's own examples"
    )
