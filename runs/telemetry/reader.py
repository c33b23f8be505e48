"""Reads the telemetry of one run: the windows of all processes, joined by step, and counts of excluded windows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from saman.runs.telemetry.columns import Array, Columns, count_rows, filter_rows, read_columns, zero_where_unknown
from saman.runs.telemetry.processes import ProcessTimes, StageWindows, process_times, stage_windows
from saman.runs.telemetry.throughput import Throughput, throughput
from saman.runs.telemetry.window import last_steps

_ROUNDING = 1e-3  # by which the parts of a window may exceed it: clocks differ
_NEEDED = ("rank", "ranks_here", "size", "step", "steps", "samples", "seconds")


@dataclass(frozen=True)
class ExcludedWindows:
    """Numbers of lines and windows that do not count, by reason.

    ``impossible_exchange`` counts lines with an exchange and an input wait longer than the steps; they count, but the
    exchange of their run does not.
    """

    torn: int = 0
    foreign_schema: int = 0
    not_finite: int = 0
    repeated: int = 0
    incomplete: int = 0
    compiled: int = 0
    impossible_exchange: int = 0


@dataclass(frozen=True)
class Telemetry:
    """Windows of a run in the order of steps: samples of all processes, seconds of the slowest.

    Times are in seconds; names that end in ``_per_step`` are divided by the optimiser steps of the window.
    ``all_samples`` counts every step once, those of windows that are left out included. ``cpu_seconds`` are those of
    all processes in each window.
    """

    steps: Array
    last_step: Array
    samples: Array
    seconds: Array
    input_wait_per_step: Array
    exchange_per_step: Array | None
    loss: Array
    time: Array
    all_samples: float
    cpu_seconds: Array | None
    processes: tuple[ProcessTimes, ...]
    stages: tuple[StageWindows, ...]
    left_out: ExcludedWindows

    @property
    def samples_per_second(self) -> Array:
        """Samples per second of all ranks in each window; over several windows, ask ``throughput``."""
        return self.samples / self.seconds

    def throughput(self, dropped: int = 0) -> Throughput | None:
        """Compute the throughput without the first ``dropped`` windows; ``None`` if no window is left."""
        return throughput(self.samples[dropped:].tolist(), self.seconds[dropped:].tolist())

    @property
    def seconds_per_step(self) -> Array:
        """Seconds per optimiser step in each window."""
        return self.seconds / self.steps


def read_telemetry(run: Path, size: int | None = None) -> Telemetry:
    """Read the telemetry of a run.

    Excluded and counted are torn lines, lines of another schema version, values that are not finite and positive,
    windows that a later attempt repeated, windows that lack a process, and windows in which a graph was traced.

    Args:
        run: The run folder.
        size: The number of ranks of a complete window. ``None`` takes the recorded world size of each window, so that a
            run that resumed on fewer ranks keeps the windows of both attempts.
    """
    found, torn, foreign = read_columns(run)
    whole, impossible = _without_impossible_exchange(filter_rows(found, _is_whole(found)))
    kept = _without_repeats(whole)
    compiled = kept["compiled"] == 1
    traced = np.unique(kept["step"][compiled])
    steady = filter_rows(kept, ~np.isin(kept["step"], traced)) if len(traced) else kept
    windows, ranks = _joined(steady)
    complete = filter_rows(windows, ranks >= (windows["size"] if size is None else size))
    lost = {"not_finite": count_rows(found) - count_rows(whole), "repeated": count_rows(whole) - count_rows(kept)}
    lost |= {"incomplete": count_rows(windows) - count_rows(complete), "compiled": len(traced)}
    left = ExcludedWindows(torn, foreign, **lost, impossible_exchange=impossible)
    return _telemetry(complete, steady, float(np.sum(_counted_samples(kept))), left)


def _is_whole(found: Columns) -> NDArray[np.bool_]:
    """Mark the lines with finite and positive values of the needed measures."""
    mask = np.isfinite(np.array([found[name] for name in _NEEDED])).all(axis=0)
    positive = (found["seconds"] > 0) & (found["samples"] >= 0) & (found["steps"] > 0) & (found["ranks_here"] > 0)
    return np.asarray(mask & positive)


def _without_impossible_exchange(found: Columns) -> tuple[Columns, int]:
    """Remove exchanges that are longer, with the input wait, than the steps in which they took place; count them.

    Telemetry before 2026-12 holds an exchange that was measured once and copied into every window.
    """
    spent = zero_where_unknown(found["exchange_seconds"]) + zero_where_unknown(found["input_wait_seconds"])
    impossible = ~np.isfinite(found["stage"]) & (spent > found["seconds"] * (1 + _ROUNDING))
    if not impossible.any():
        return found, 0
    exchange = np.where(impossible, np.nan, found["exchange_seconds"])
    return {**found, "exchange_seconds": exchange}, int(impossible.sum())


def _without_repeats(found: Columns) -> Columns:
    """Drop the windows that a later attempt, or the same after a rollback, repeated, by the rule of ``last_steps``."""
    numbers = found["attempt"] + _parts_of_attempts(found)
    if (numbers == numbers[:1]).all():
        return found
    attempts, place = np.unique(numbers, return_inverse=True)
    begins = np.full(len(attempts), np.inf)
    np.minimum.at(begins, place, found["step"] - found["steps"])
    last = last_steps(dict(enumerate(begins.tolist())))
    return filter_rows(found, found["step"] <= np.array([last[number] for number in range(len(attempts))])[place])


def _parts_of_attempts(found: Columns) -> Array:
    """Number the parts between rollbacks of each attempt: 0, 0.001, 0.002 …, alike for all processes."""
    order = np.lexsort((np.arange(count_rows(found)), found["rank"], found["attempt"]))
    attempt, rank, step = (found[name][order] for name in ("attempt", "rank", "step"))
    same = (np.diff(attempt) == 0) & (np.diff(rank) == 0)
    back = np.concatenate([[False], same & (step[1:] - found["steps"][order][1:] < step[:-1])])[: len(order)]
    if not back.any():
        return np.zeros(len(order))
    first = np.concatenate([[0], np.flatnonzero(~same) + 1])
    before = np.repeat(np.cumsum(back)[first], np.diff([*first, len(order)]))
    parts = np.empty(len(order))
    parts[order] = (np.cumsum(back) - before) / 1000.0
    return parts


def _joined(found: Columns) -> tuple[Columns, Array]:
    """Join the processes: one row per window with the sum of samples, the longest seconds and mean waiting times.

    Returns:
        The windows, and the number of ranks that each was measured on.
    """
    steps, place, processes = np.unique(found["step"], return_inverse=True, return_counts=True)

    def total(values: Array) -> Array:
        return np.asarray(np.bincount(place, values, len(steps)), float)

    def most(values: Array) -> Array:
        result = np.full(len(steps), -np.inf)
        np.maximum.at(result, place, values)
        return result

    def least(values: Array) -> Array:
        result = np.full(len(steps), np.inf)
        np.minimum.at(result, place, values)
        return result

    # the stages of a pipeline end a step together: a stage's exchange beyond the shortest is waiting
    staged = bool(np.isfinite(found["stage"]).any())
    known = np.isfinite(found["loss"])
    loss = np.full(len(steps), np.nan)
    loss[place[known]] = found["loss"][known]
    windows = {
        "step": steps,
        "steps": most(found["steps"]),
        "size": most(found["size"]),
        "samples": total(_counted_samples(found)),
        "seconds": most(found["seconds"]),
        "input_wait": total(zero_where_unknown(found["input_wait_seconds"])) / processes,
        "exchange": least(found["exchange_seconds"]) if staged else total(found["exchange_seconds"]) / processes,
        "loss": loss,
        "time": most(found["time"]),
        "cpu": total(found["cpu_seconds"]),
    }
    return windows, total(found["ranks_here"])


def _counted_samples(found: Columns) -> Array:
    """Samples per row; the stages of a pipeline share their samples: those of the first stage count."""
    return np.where(zero_where_unknown(found["stage"]) == 0, found["samples"], 0.0)


def _telemetry(windows: Columns, steady: Columns, all_samples: float, left_out: ExcludedWindows) -> Telemetry:
    steps, exchange = windows["steps"], windows["exchange"]
    return Telemetry(
        steps=steps,
        last_step=windows["step"],
        samples=windows["samples"],
        seconds=windows["seconds"],
        input_wait_per_step=windows["input_wait"] / steps,
        exchange_per_step=exchange / steps if len(steps) and np.isfinite(exchange).all() else None,
        loss=windows["loss"],
        time=windows["time"],
        all_samples=all_samples,
        cpu_seconds=windows["cpu"] if len(steps) and np.isfinite(windows["cpu"]).all() else None,
        processes=tuple(process_times(steady, rank) for rank in np.unique(steady["rank"])),
        stages=tuple(stage_windows(steady, windows)),
        left_out=left_out,
    )
