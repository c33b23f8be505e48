"""Seconds per step over the newest windows of the chief: their distribution, and what they are spent on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from saman.runs.telemetry.throughput import quantile
from saman.runs.telemetry.window import Window


@dataclass(frozen=True)
class StepStatistics:
    """Seconds per step of the newest windows.

    Attributes:
        median: Median over windows of the mean step of each window.
        p95: Their 95th percentile.
        longest: Their largest.
        input_wait: Mean wait for batches.
        exchange: Mean wait in the exchange; ``None`` if it is not measured.
        own: The rest: own work.
    """

    median: float
    p95: float
    longest: float
    input_wait: float
    exchange: float | None
    own: float


def step_statistics(windows: Iterable[Window]) -> StepStatistics | None:
    """Compute the statistics of windows; those in which a graph was traced do not count.

    Returns:
        The statistics; ``None`` without windows.
    """
    steady = [window for window in windows if not window.compiled and window.steps > 0]
    if not steady:
        return None
    steps = sum(window.steps for window in steady)
    each = sorted(window.seconds / window.steps for window in steady)
    whole = sum(window.seconds for window in steady) / steps
    waited = sum(window.input_wait_seconds for window in steady) / steps
    exchanges = [window.exchange_seconds for window in steady if window.exchange_seconds is not None]
    exchange = sum(exchanges) / steps if len(exchanges) == len(steady) else None
    own = max(0.0, whole - waited - (exchange or 0.0))
    return StepStatistics(quantile(each, 0.5), quantile(each, 0.95), each[-1], waited, exchange, own)
