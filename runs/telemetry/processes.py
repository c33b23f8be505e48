"""Telemetry by process: the parts of a step on each rank, over a run and over parts of it, and of pipeline stages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

import numpy as np

from saman.runs.telemetry.columns import Array, Columns, count_rows, filter_rows, zero_where_unknown

# Series of a stage's work and their columns.
_WORK = {
    "passes": "pass_seconds",
    "pass_cpu": "pass_cpu_seconds",
    "exchange_cpu": "exchange_cpu_seconds",
    "update_cpu": "update_cpu_seconds",
}
_OF_A_PROCESS = (
    "rank", "step", "steps", "seconds", "bubble_seconds", "transfer_seconds", "exchange_seconds", "input_wait_seconds",
    "own_deviation_seconds", "stage",
)  # fmt: skip
_SPANS = 10  # parts of a run, in the search for ranks that become slow while it lasts
_FEW = 500  # values that Python sorts in less time than numpy
_FEWEST_IN_SPAN = 3  # windows


@dataclass(frozen=True)
class BusySpan:
    """Median seconds per step of a process before it could exchange, over the windows of a part of the run.

    ``begin`` and ``end`` are the last steps of its first and of its last window.
    """

    begin: int
    end: int
    seconds: float


@dataclass(frozen=True)
class ProcessTimes:
    """One process over a run: medians over its windows, in seconds per step.

    ``own_seconds`` is the step without exchange, waiting for neighbours and input wait. ``busy_seconds`` includes the
    input wait: a rank that is late for either reason holds up the others. ``busy_spans`` has it over tenths of the run.
    ``own_deviation_seconds`` is the standard deviation of own work over single steps, where it was recorded.
    ``variation`` is the coefficient of variation of seconds per step.
    """

    rank: int
    seconds: float
    own_seconds: float
    busy_seconds: float
    busy_spans: tuple[BusySpan, ...]
    own_deviation_seconds: float | None
    input_wait_seconds: float
    variation: float | None
    stage: int | None
    transfer_seconds: float | None
    bubble_seconds: float | None


@dataclass(frozen=True)
class StageWindows:
    """The process of a pipeline stage: per window of the run, in seconds per step.

    All stages end a step together. ``exchange`` is the shortest exchange of all stages; the rest of a stage's exchange
    is waiting. ``waiting`` (the bubble) includes it and waiting for neighbours. ``passes`` has the
    wall seconds of both passes, ``pass_cpu``, ``exchange_cpu`` and ``update_cpu`` CPU seconds; all are None in older
    telemetry. ``memory_bytes`` is the peak above the start of the process, where the system reports it.
    """

    rank: int
    stage: int
    seconds: Array
    input_wait: Array
    waiting: Array
    transfer: Array
    exchange: Array
    passes: Array | None
    pass_cpu: Array | None
    exchange_cpu: Array | None
    update_cpu: Array | None
    memory_bytes: float | None

    @property
    def busy(self) -> Array:
        """The remaining time in the telemetry: both passes of all micro-batches, and the optimiser's update."""
        return np.maximum(self.seconds - self.input_wait - self.waiting - self.transfer - self.exchange, 0.0)

    def after(self, dropped: int) -> StageWindows:
        """Drop the first ``dropped`` windows of the stages' telemetry."""
        series = ("seconds", "input_wait", "waiting", "transfer", "exchange", *_WORK)
        known = {name: values for name in series if (values := getattr(self, name)) is not None}
        return replace(self, **{name: values[dropped:] for name, values in known.items()})


def process_times(found: Columns, rank: float) -> ProcessTimes:
    """Summarise one process.

    Args:
        found: Steady windows of all processes.
        rank: First rank of the process.
    """
    rows = found["rank"] == rank
    mine = filter_rows({name: found[name] for name in _OF_A_PROCESS}, rows)
    steps = mine["steps"]
    seconds = mine["seconds"] / steps
    neighbours = zero_where_unknown(mine["bubble_seconds"]) + zero_where_unknown(mine["transfer_seconds"])
    busy = np.maximum(seconds - (zero_where_unknown(mine["exchange_seconds"]) + neighbours) / steps, 0.0)
    wait = zero_where_unknown(mine["input_wait_seconds"]) / steps
    stage = mine["stage"][0]
    return ProcessTimes(
        rank=int(rank),
        seconds=_middle_of(seconds),
        own_seconds=_middle_of(np.maximum(busy - wait, 0.0)),
        busy_seconds=_middle_of(busy),
        busy_spans=tuple(_spans(mine["step"], busy)),
        own_deviation_seconds=_median(mine["own_deviation_seconds"]),
        input_wait_seconds=_middle_of(wait),
        variation=variation(seconds),
        stage=int(stage) if np.isfinite(stage) else None,
        transfer_seconds=_median(mine["transfer_seconds"] / steps),
        bubble_seconds=_median(mine["bubble_seconds"] / steps),
    )


def _spans(last_steps: Array, busy: Array) -> Iterable[BusySpan]:
    """Medians over tenths of the windows; of fewer parts where tenths would be too short."""
    order = np.argsort(last_steps)
    values, steps = busy[order].tolist(), last_steps[order].tolist()
    for begin, end in _span_limits(len(values)):
        yield BusySpan(int(steps[begin]), int(steps[end - 1]), _middle(values[begin:end]))


@lru_cache(maxsize=256)
def _span_limits(windows: int) -> tuple[tuple[int, int], ...]:
    """The parts of a number of windows: the first of each, and the first of the next."""
    parts = min(_SPANS, windows // _FEWEST_IN_SPAN)
    return tuple(pairwise(round(end) for end in np.linspace(0, windows, parts + 1).tolist())) if parts else ()


def _middle_of(values: Array) -> float:
    """The median of finite values."""
    return _middle(values.tolist()) if len(values) <= _FEW else float(np.median(values))


def _middle(values: list[float]) -> float:
    """The median of a few values: numpy takes fifty times as long."""
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def stage_windows(found: Columns, windows: Columns) -> Iterable[StageWindows]:
    """The telemetry of the processes of a pipeline over the windows that count; none if stages share a process.

    Args:
        found: Steady windows of all processes.
        windows: The windows of the run, joined over processes.
    """
    if not np.isfinite(found["stage"]).any():
        return
    staged = filter_rows(found, np.isfinite(found["stage"]) & np.isin(found["step"], windows["step"]))
    for rank in np.unique(staged["rank"]):
        mine = filter_rows(staged, staged["rank"] == rank)
        mine = {name: values[np.argsort(mine["step"])] for name, values in mine.items()}
        if count_rows(mine) < len(windows["step"]):
            continue
        steps, exchange = mine["steps"], zero_where_unknown(mine["exchange_seconds"])
        shared = np.minimum(np.nan_to_num(windows["exchange"], posinf=0.0), exchange)
        waiting = zero_where_unknown(mine["bubble_seconds"]) + exchange - shared
        wait, transfer = zero_where_unknown(mine["input_wait_seconds"]), zero_where_unknown(mine["transfer_seconds"])
        held = (mine["memory_bytes"] - mine["memory_start_bytes"])[np.isfinite(mine["memory_start_bytes"])]
        yield StageWindows(
            rank=int(rank),
            stage=int(mine["stage"][0]),
            seconds=mine["seconds"] / steps,
            input_wait=wait / steps,
            waiting=waiting / steps,
            transfer=transfer / steps,
            exchange=shared / steps,
            **{name: _if_finite(mine[column] / steps) for name, column in _WORK.items()},
            memory_bytes=float(held.max()) if len(held) and np.isfinite(held).all() else None,
        )


def _if_finite(values: Array) -> Array | None:
    return values if len(values) and np.isfinite(values).all() else None


def _median(values: Array) -> float | None:
    known = values[np.isfinite(values)]
    return _middle_of(known) if len(known) else None


def variation(values: Sequence[float] | Array) -> float | None:
    """The coefficient of variation of a process's windows: standard deviation ÷ mean; ``None`` below two values."""
    x = np.asarray(values, float)
    return float(x.std(ddof=1) / x.mean()) if len(x) > 1 and x.mean() != 0 else None
