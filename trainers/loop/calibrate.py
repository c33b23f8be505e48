"""Measures the exchange between ranks that computation does not hide: steps with it, against steps without.

A profiler cannot tell communication hidden behind the backward pass from communication that ranks wait for. The
difference between two graphs that differ in nothing else can.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np

from saman.runs.ranks.training_events import ExchangeMeasurement
from saman.trainers.loop.step import DataParallelStep
from saman.trainers.strategies.base import Strategy


def measure_exchange(
    step: DataParallelStep, strategy: Strategy, batches: Sequence[Any], steps: int
) -> ExchangeMeasurement:
    """Measure steps with and without the exchange in turn, all on one batch, and restore the state afterwards.

    Args:
        step: The step to measure; its weights and optimiser state are the same before and after.
        strategy: Combines the ranks; all ranks call this function together.
        batches: One (inputs, labels) pair per slice of this process.
        steps: Number of measured steps of each kind, after one of each that compiles.

    Returns:
        Medians over this process's steps, in seconds; the wait for slower ranks is part of the exchange.
    """
    before = step.state()
    kinds = {True: step, False: step.without_exchange()}
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(steps + 1):
        for exchange, kind in kinds.items():
            strategy.total(np.zeros(1))  # a barrier: all ranks begin together
            began = time.perf_counter()
            np.asarray(kind.train(turn, 1e-6, 0.0, batches).measures)
            if turn:
                seconds[exchange].append(time.perf_counter() - began)
    step.restore(before)
    with_exchange, without = median(seconds[True]), median(seconds[False])
    exposed = max(0.0, with_exchange - without)
    return ExchangeMeasurement(strategy.ranks[0], steps, with_exchange, without, exposed)
