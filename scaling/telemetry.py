"""Reads the telemetry of one run quickly: windows of all processes joined step by step, and what had to be left out."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from saman.configs.records import SCHEMA
from saman.scaling.spread import variation

Array = NDArray[np.float64]

# The measures of configs.records.Window that a report looks at.
_COLUMNS = {
    "schema": pl.Float64,
    "rank": pl.Float64,
    "ranks_here": pl.Float64,
    "size": pl.Float64,
    "step": pl.Float64,
    "steps": pl.Float64,
    "samples": pl.Float64,
    "seconds": pl.Float64,
    "input_wait_seconds": pl.Float64,
    "exchange_seconds": pl.Float64,
    "loss": pl.Float64,
    "compiled": pl.Boolean,
    "stage": pl.Float64,
    "transfer_seconds": pl.Float64,
    "bubble_seconds": pl.Float64,
    "time": pl.Float64,
}
_NEEDED = ("rank", "ranks_here", "size", "step", "steps", "samples", "seconds")


@dataclass(frozen=True)
class LeftOut:
    """Lines and windows that do not count, by reason."""

    torn: int = 0
    foreign_schema: int = 0
    not_finite: int = 0
    repeated: int = 0
    incomplete: int = 0
    compiled: int = 0


@dataclass(frozen=True)
class Process:
    """One process over a run: per rank of it, medians over its windows in seconds per step."""

    rank: int
    seconds: float
    own_seconds: float
    input_wait_seconds: float
    variation: float | None
    stage: int | None
    transfer_seconds: float | None
    bubble_seconds: float | None


@dataclass(frozen=True)
class Telemetry:
    """Windows of a run in the order of steps, summed over its processes; times in seconds, per step where said."""

    steps: Array
    last_step: Array
    samples: Array
    seconds: Array
    input_wait_per_step: Array
    exchange_per_step: Array | None
    loss: Array
    time: Array
    processes: tuple[Process, ...]
    left_out: LeftOut

    @property
    def rate(self) -> Array:
        """Samples per second of all ranks in each window."""
        return self.samples / self.seconds

    @property
    def seconds_per_step(self) -> Array:
        """Seconds per optimiser step in each window."""
        return self.seconds / self.steps


Columns = dict[str, Array]


def read_telemetry(run: Path, size: int | None = None) -> Telemetry:
    """The telemetry of the run folder ``run``; ``size`` is how many ranks a whole window has.

    Torn lines, lines of another schema, values that are not finite and positive, windows repeated by a later attempt,
    windows that lack a process, and windows in which a graph was traced are left out and counted.
    """
    found, torn, foreign = _lines(run)
    whole = _kept(found, _is_whole(found))
    kept = _without_repeats(whole)
    compiled = kept["compiled"] == 1
    traced = np.unique(kept["step"][compiled])
    steady = _kept(kept, ~np.isin(kept["step"], traced)) if len(traced) else kept
    windows, ranks = _joined(steady)
    expected = size or (int(steady["size"].max()) if len(steady["size"]) else 0)
    complete = _kept(windows, ranks >= expected)
    lost = {"not_finite": _count(found) - _count(whole), "repeated": _count(whole) - _count(kept)}
    left = LeftOut(torn, foreign, **lost, incomplete=_count(windows) - _count(complete), compiled=len(traced))
    return _telemetry(complete, steady, left)


def _count(columns: Columns) -> int:
    return len(columns["step"])


def _kept(columns: Columns, mask: NDArray[np.bool_]) -> Columns:
    return columns if mask.all() else {name: values[mask] for name, values in columns.items()}


def _is_whole(found: Columns) -> NDArray[np.bool_]:
    """Which lines have every measure that counts, finite and positive."""
    mask = np.isfinite(np.array([found[name] for name in _NEEDED])).all(axis=0)
    positive = (found["seconds"] > 0) & (found["samples"] >= 0) & (found["steps"] > 0) & (found["ranks_here"] > 0)
    return np.asarray(mask & positive)


def _lines(run: Path) -> tuple[Columns, int, int]:
    """Every record of every attempt, oldest attempt first; torn and foreign lines are counted. Missing is NaN."""
    parts: list[Columns] = []
    torn = foreign = 0
    for attempt, path in _files(run):
        frame, lost = _parsed(path.read_bytes())
        columns = {name: frame[name].cast(pl.Float64).to_numpy() for name in _COLUMNS}
        ours = _kept(columns, columns["schema"] == SCHEMA)
        torn += lost
        foreign += _count(columns) - _count(ours)
        parts.append({**ours, "attempt": np.full(_count(ours), float(attempt))})
    if not parts:
        return {name: np.zeros(0) for name in (*_COLUMNS, "attempt")}, torn, foreign
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, torn, foreign


def _files(run: Path) -> list[tuple[int, Path]]:
    """Attempt and file of every process, oldest attempt first."""
    found = []
    for attempt in sorted(int(name) for name in _names(run / "attempts") if name.isdigit()):
        folder = run / "attempts" / str(attempt) / "telemetry"
        names = sorted(_names(folder))
        found += [(attempt, folder / name) for name in names if name.endswith(".jsonl")]
    return found


def _names(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(folder)]
    except OSError:
        return []


def _parsed(data: bytes) -> tuple[pl.DataFrame, int]:
    """The records of a file; its torn lines are dropped and counted."""
    if not data.strip():
        return pl.DataFrame(schema=_COLUMNS), 0
    try:
        return pl.read_ndjson(io.BytesIO(data), schema=_COLUMNS), 0
    except pl.exceptions.PolarsError:
        return _parsed_line_by_line(data.split(b"\n"))


def _parsed_line_by_line(lines: Iterable[bytes]) -> tuple[pl.DataFrame, int]:
    records, torn = [], 0
    for line in lines:
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if isinstance(value, dict):
            records.append({name: _number(value.get(name), kind) for name, kind in _COLUMNS.items()})
        else:
            torn += 1
    return pl.DataFrame(records, schema=_COLUMNS, strict=False), torn


def _number(value: object, kind: object) -> object:
    if kind == pl.Boolean:
        return value if isinstance(value, bool) else None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _without_repeats(found: Columns) -> Columns:
    """Windows of an attempt give way to those of later attempts from the step on at which these began."""
    attempts = np.unique(found["attempt"])
    if len(attempts) < 2:
        return found
    mask = np.ones(_count(found), bool)
    until = np.inf
    for attempt in attempts[::-1]:
        mine = found["attempt"] == attempt
        mask &= ~mine | (found["step"] <= until)
        until = min(until, float((found["step"] - found["steps"])[mine].min()))
    return _kept(found, mask)


def _joined(found: Columns) -> tuple[Columns, Array]:
    """One row per window: samples of all processes together, the longest seconds, means of what each waited.

    Also how many ranks each window was measured on.
    """
    steps, place, processes = np.unique(found["step"], return_inverse=True, return_counts=True)

    def total(values: Array) -> Array:
        return np.asarray(np.bincount(place, values, len(steps)), float)

    def most(values: Array) -> Array:
        result = np.full(len(steps), -np.inf)
        np.maximum.at(result, place, values)
        return result

    # the stages of a pipeline share their samples: those of the first count
    first = np.nan_to_num(found["stage"]) == 0
    known = np.isfinite(found["loss"])
    loss = np.full(len(steps), np.nan)
    loss[place[known]] = found["loss"][known]
    windows = {
        "step": steps,
        "steps": most(found["steps"]),
        "samples": total(np.where(first, found["samples"], 0.0)),
        "seconds": most(found["seconds"]),
        "input_wait": total(np.nan_to_num(found["input_wait_seconds"])) / processes,
        "exchange": total(found["exchange_seconds"]) / processes,
        "loss": loss,
        "time": most(found["time"]),
    }
    return windows, total(found["ranks_here"])


def _telemetry(windows: Columns, steady: Columns, left_out: LeftOut) -> Telemetry:
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
        processes=tuple(_process(steady, rank) for rank in np.unique(steady["rank"])),
        left_out=left_out,
    )


def _process(found: Columns, rank: float) -> Process:
    """One process by itself. Own time is what it spends on its own work: without waiting for others."""
    mine = _kept(found, found["rank"] == rank)
    steps = mine["steps"]
    seconds = mine["seconds"] / steps
    own = seconds - np.nan_to_num(mine["exchange_seconds"]) / steps
    wait = np.nan_to_num(mine["input_wait_seconds"]) / steps
    stage = mine["stage"][0]
    return Process(
        int(rank),
        float(np.median(seconds)),
        float(np.median(own)),
        float(np.median(wait)),
        variation(seconds),
        int(stage) if np.isfinite(stage) else None,
        _median(mine["transfer_seconds"] / steps),
        _median(mine["bubble_seconds"] / steps),
    )


def _median(values: Array) -> float | None:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else None
