"""The times of each step, from time stamps in the graph: input wait, own work, exchange.

    sums of the step before ──► batch fetched ──► last gradient ready ──► sums received
                        input wait        own work              exchange

Own work is the time between two exchanges without the input wait: the update of the step before, both passes, and
what the loop does in between. A rank waits for others in its exchange only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class StepTotals:
    """Measures of the steps of one call. They may be tensors that are still being computed; reading them waits.

    Attributes:
        measures: float64[4] measures of the global batch of each step, float64[steps, 4] for several; equal on all
            ranks.
        stamps: float64[steps, 3]: seconds in which the graph waited for the batch, Unix time at which the last
            gradient was ready, Unix time at which the sums of all ranks were received. ``None`` without time stamps.
        signs: [steps, ranks of this process, n]: signs of failure (``trainers.health.signs``); ``None`` without.
    """

    measures: Any
    stamps: Any | None = None
    signs: Any | None = None


@dataclass(frozen=True)
class StepTimes:
    """Seconds of consecutive steps, float64[steps] each; together they are no longer than the steps."""

    input_wait: Array
    own: Array
    exchange: Array

    @property
    def busy(self) -> Array:
        """Seconds of each step before this process could exchange: input wait and own work."""
        return self.input_wait + self.own

    def cut(self, begin: int, end: int) -> StepTimes:
        """Return the times of the steps from ``begin`` to before ``end``."""
        return StepTimes(self.input_wait[begin:end], self.own[begin:end], self.exchange[begin:end])


def split_steps(stamps: Any, since: float, waited: float = 0.0) -> StepTimes:
    """Split the times of the loop's steps into their parts.

    Args:
        stamps: As in ``StepTotals``.
        since: Unix time at which the first step began.
        waited: Seconds for which the first step waited for its batch outside of the graph.

    >>> times = split_steps([[0.25, 101.0, 101.5], [0.25, 103.0, 103.0]], since=100.0)
    >>> times.own.tolist(), times.exchange.tolist()
    ([0.75, 1.25], [0.5, 0.0])
    """
    rows = np.array(stamps, float).reshape(-1, 3)
    input_wait, ready, received = rows.T.copy()
    input_wait[:1] += waited
    before = np.concatenate([[since], received[:-1]])
    # a clock that is set back while a step runs must not yield negative times
    return StepTimes(input_wait, np.maximum(ready - before - input_wait, 0.0), np.maximum(received - ready, 0.0))


def join(parts: Sequence[StepTimes]) -> StepTimes:
    """Join the times of consecutive steps."""
    columns = [(part.input_wait, part.own, part.exchange) for part in parts]
    return StepTimes(*(np.concatenate([np.zeros(0), *column]) for column in zip(*columns, strict=True)))
