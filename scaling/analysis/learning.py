"""Learning curves: loss over samples and time, and metrics at the end of each epoch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from saman.runs.events import Event
from saman.runs.ranks.training_events import EpochEnd
from saman.runs.telemetry.reader import Telemetry
from saman.runs.telemetry.wall_time import WallTime

Array = NDArray[np.float64]
_CURVE_POINTS = 120  # of a loss curve; a figure does not resolve more


@dataclass(frozen=True)
class LossCurve:
    """Loss of the chief, thinned out: samples seen, seconds of training, loss."""

    samples: Array
    seconds: Array
    loss: Array


@dataclass(frozen=True)
class Epoch:
    """Metrics at the end of an epoch, with samples seen and wall time of the attempts until then, in seconds."""

    epoch: int
    samples: float
    seconds: float
    metrics: Mapping[str, float]


def loss_curve(telemetry: Telemetry) -> LossCurve | None:
    """The chief's loss curve; None where no window has a loss."""
    known = np.isfinite(telemetry.loss)
    if not known.any():
        return None
    samples, seconds = np.cumsum(telemetry.samples)[known], np.cumsum(telemetry.seconds)[known]
    loss = telemetry.loss[known]
    starts, sizes = _thinned(len(loss))
    return LossCurve(*(np.add.reduceat(column, starts) / sizes for column in (samples, seconds, loss)))


@lru_cache(maxsize=256)
def _thinned(windows: int) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    """The first window of each point of a curve, and how many windows it stands for."""
    starts = np.unique(np.linspace(0, windows, _CURVE_POINTS, endpoint=False).astype(int))
    return starts, np.diff([*starts, windows])


def epochs_of(events: Iterable[Event], telemetry: Telemetry, wall: WallTime) -> Iterable[Epoch]:
    """The finished epochs of a run's learning curve in order.

    Args:
        events: Of all attempts; a repeated epoch counts once, as of its last attempt.
        telemetry: Gives the samples per step.
        wall: Wall time of the attempts: time to a metric includes start, tracing, validation and checkpoints.
    """
    total = np.cumsum(telemetry.samples)
    per_step = float(total[-1] / telemetry.steps.sum()) if len(total) else 0.0
    seen: dict[int, Epoch] = {}
    for event in events:
        if (done := EpochEnd.from_event(event)) is not None:
            values = {name: value for name, value in done.metrics.items() if value is not None}
            seen[done.epoch] = Epoch(done.epoch, done.step * per_step, wall.until(event.time), values)
    return [seen[number] for number in sorted(seen) if number > 0]
