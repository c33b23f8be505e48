"""What the exchange between ranks costs where computation does not hide it: steps with it, against steps without.

A profiler cannot tell communication that is hidden behind the backward pass from communication that is waited for; the
difference between two graphs that differ in nothing else can.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np

from saman.trainers.loop.step import DataParallelStep
from saman.trainers.strategies.base import Strategy


@dataclass(frozen=True)
class ExchangeCost:
    """Medians over ``steps`` of this process, in seconds per step; waiting for slower ranks is part of the exchange."""

    steps: int
    step_seconds: float
    compute_seconds: float

    @property
    def exposed_seconds(self) -> float:
        """What a step would save if ranks had nothing to exchange; never negative."""
        return max(0.0, self.step_seconds - self.compute_seconds)

    def facts(self) -> dict[str, float]:
        """For an event."""
        return {**asdict(self), "exposed_seconds": self.exposed_seconds}


def measure(step: DataParallelStep, strategy: Strategy, batches: Sequence[Any], steps: int) -> ExchangeCost:
    """Take ``steps`` steps of each kind in turn on the same batch, after one of each to compile; then undo them all."""
    before = step.state()
    kinds = {True: step, False: step.without_exchange()}
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(steps + 1):
        for exchanged, one in kinds.items():
            strategy.total(np.zeros(1))  # all ranks begin together
            began = time.perf_counter()
            np.asarray(one.train(turn, 1e-6, 0.0, batches))
            if turn:
                seconds[exchanged].append(time.perf_counter() - began)
    step.restore(before)
    return ExchangeCost(steps, median(seconds[True]), median(seconds[False]))
