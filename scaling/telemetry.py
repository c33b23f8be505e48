"""Reads the telemetry of one run quickly: windows of all processes joined step by step, and what had to be left out."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from saman.configs.records import SCHEMA

Array = NDArray[np.float64]

# The measures of configs.records.Window that a report looks at.
_COLUMNS = {
    "schema": pl.Int64,
    "rank": pl.Int64,
    "ranks_here": pl.Int64,
    "size": pl.Int64,
    "step": pl.Int64,
    "steps": pl.Int64,
    "samples": pl.Float64,
    "seconds": pl.Float64,
    "input_wait_seconds": pl.Float64,
    "exchange_seconds": pl.Float64,
    "loss": pl.Float64,
    "compiled": pl.Boolean,
    "stage": pl.Int64,
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


def read_telemetry(run: Path, size: int | None = None) -> Telemetry:
    """The telemetry of the run folder ``run``; ``size`` is how many ranks a whole window has.

    Torn lines, lines of another schema, values that are not finite and positive, windows repeated by a later attempt,
    windows that lack a process, and windows in which a graph was traced are left out and counted.
    """
    frame, torn, foreign = _lines(run)
    whole = frame.filter(pl.all_horizontal(pl.col(name).is_not_null() for name in _NEEDED))
    whole = whole.filter(pl.col("seconds").is_finite() & pl.col("samples").is_finite() & (pl.col("seconds") > 0))
    whole = whole.filter((pl.col("samples") >= 0) & (pl.col("steps") > 0) & (pl.col("ranks_here") > 0))
    not_finite = len(frame) - len(whole)
    kept = _without_repeats(whole)
    repeated = len(whole) - len(kept)
    compiled = kept.filter(pl.col("compiled").fill_null(False))
    traced = set(compiled["step"].to_list())
    steady = kept.filter(~pl.col("step").is_in(list(traced))) if traced else kept
    joined = _joined(steady, size)
    complete = joined.filter(pl.col("ranks") >= pl.col("size"))
    left = LeftOut(torn, foreign, not_finite, repeated, len(joined) - len(complete), len(traced))
    return _telemetry(complete, steady, left)


def _lines(run: Path) -> tuple[pl.DataFrame, int, int]:
    """Every record of every attempt, oldest attempt first; torn and foreign lines are counted."""
    frames, torn, foreign = [], 0, 0
    files = (
        (int(path.parts[-3]), path) for path in run.glob("attempts/*/telemetry/*.jsonl") if path.parts[-3].isdigit()
    )
    for attempt, path in sorted(files):
        frame, lost = _parsed(path.read_bytes())
        ours = frame.filter(pl.col("schema") == SCHEMA)
        torn += lost
        foreign += len(frame) - len(ours)
        if len(ours):
            frames.append(ours.with_columns(pl.lit(attempt).alias("attempt")))
    empty = pl.DataFrame(schema={**_COLUMNS, "attempt": pl.Int32})
    return (pl.concat(frames) if frames else empty), torn, foreign


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


def _without_repeats(frame: pl.DataFrame) -> pl.DataFrame:
    """Windows of an attempt give way to those of later attempts from the step on at which these began."""
    if frame["attempt"].n_unique() < 2:
        return frame
    began = frame.group_by("attempt").agg((pl.col("step") - pl.col("steps")).min().alias("from")).sort("attempt")
    later = began.with_columns(pl.col("from").reverse().cum_min().reverse().shift(-1).alias("until"))
    joined = frame.join(later.select("attempt", "until"), on="attempt", how="left")
    return joined.filter(pl.col("until").is_null() | (pl.col("step") <= pl.col("until"))).drop("until")


def _joined(frame: pl.DataFrame, size: int | None) -> pl.DataFrame:
    """One row per window: samples of all processes together, the longest seconds, means of what each waited."""
    loss = pl.col("loss").drop_nulls().first()
    per_step = (pl.col(f"{what}_seconds").mean().alias(what) for what in ("input_wait", "exchange"))
    measures = [
        pl.col("steps").max(),
        pl.col("samples").filter(pl.col("stage").fill_null(0) == 0).sum(),  # stages of a pipeline share their samples
        pl.col("seconds").max(),
        *per_step,
        loss.alias("loss"),
        pl.col("time").max(),
        pl.col("ranks_here").sum().alias("ranks"),
        (pl.lit(size, pl.Int64) if size else pl.col("size").max()).alias("size"),
    ]
    return frame.group_by("step").agg(measures).sort("step")


def _telemetry(windows: pl.DataFrame, steady: pl.DataFrame, left_out: LeftOut) -> Telemetry:
    steps = windows["steps"].cast(pl.Float64).to_numpy()
    exchange = windows["exchange"]
    measured = len(windows) > 0 and exchange.null_count() == 0
    return Telemetry(
        steps=steps,
        last_step=windows["step"].cast(pl.Float64).to_numpy(),
        samples=windows["samples"].to_numpy(),
        seconds=windows["seconds"].to_numpy(),
        input_wait_per_step=windows["input_wait"].fill_null(0.0).to_numpy() / steps,
        exchange_per_step=exchange.to_numpy() / steps if measured else None,
        loss=windows["loss"].to_numpy().astype(float),
        time=windows["time"].fill_null(float("nan")).to_numpy(),
        processes=_processes(steady),
        left_out=left_out,
    )


def _processes(frame: pl.DataFrame) -> tuple[Process, ...]:
    """Each process by itself. Own time is what it spends on its own work: without waiting for others."""
    seconds, steps = pl.col("seconds"), pl.col("steps")
    own = seconds - pl.col("exchange_seconds").fill_null(0.0)
    rows = (
        frame.group_by("rank")
        .agg(
            (seconds / steps).median().alias("seconds"),
            (own / steps).median().alias("own"),
            (pl.col("input_wait_seconds").fill_null(0.0) / steps).median().alias("wait"),
            ((seconds / steps).std() / (seconds / steps).mean()).alias("variation"),
            pl.col("stage").first(),
            (pl.col("transfer_seconds") / steps).median().alias("transfer"),
            (pl.col("bubble_seconds") / steps).median().alias("bubble"),
        )
        .sort("rank")
    )
    return tuple(Process(*row) for row in rows.rows())
