"""Reads the telemetry of a run's processes into columns and counts the lines that cannot be read."""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Iterable
from itertools import groupby
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from saman.configs.regular_files import read_regular
from saman.runs.events import SCHEMA
from saman.runs.files.whole import parse_json
from saman.runs.paths.run import RunPaths

Array = NDArray[np.float64]
Columns = dict[str, Array]

# The measures of runs.telemetry.window.Window that readers use.
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
    "pass_seconds": pl.Float64,
    "pass_cpu_seconds": pl.Float64,
    "exchange_cpu_seconds": pl.Float64,
    "update_cpu_seconds": pl.Float64,
    "own_deviation_seconds": pl.Float64,
    "cpu_seconds": pl.Float64,
    "memory_bytes": pl.Float64,
    "memory_start_bytes": pl.Float64,
    "time": pl.Float64,
}
_COMPILED = list(_COLUMNS).index("compiled")
_NUMBERS, _FLAGS = {int, float, type(None)}, {bool, type(None)}
_SHORT = 16384  # bytes, up to which Python parses in less time than polars takes to start a query


def count_rows(columns: Columns) -> int:
    """Return the number of rows of telemetry columns."""
    return len(columns["step"])


def filter_rows(columns: Columns, mask: NDArray[np.bool_]) -> Columns:
    """Return the rows where ``mask`` is true."""
    return columns if mask.all() else {name: values[mask] for name, values in columns.items()}


def zero_where_unknown(values: Array) -> Array:
    """Return the values with 0 for NaN; ``np.nan_to_num`` takes six times as long for a few windows."""
    return np.where(np.isnan(values), 0.0, values)


def read_columns(run: Path) -> tuple[Columns, int, int]:
    """Read every record of every attempt, oldest attempt first; missing values are NaN.

    Returns:
        The columns, the number of torn lines, and the number of records of another schema version.
    """
    parts: list[Columns] = []
    torn = foreign = 0
    for attempt, path in _files(RunPaths(run)):
        table, lost = _parsed(_content(path))
        columns = {name: table[:, index] for index, name in enumerate(_COLUMNS)}
        ours = filter_rows(columns, columns["schema"] == SCHEMA)
        torn += lost
        foreign += count_rows(columns) - count_rows(ours)
        parts.append({**ours, "attempt": np.full(count_rows(ours), float(attempt))})
    if not parts:
        return {name: np.zeros(0) for name in (*_COLUMNS, "attempt")}, torn, foreign
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, torn, foreign


def _files(run: RunPaths) -> list[tuple[int, Path]]:
    """List the attempt and the file of every process, oldest attempt first."""
    return [(attempt.number, file) for attempt in run.attempts() for file in attempt.telemetry_files()]


def _content(path: Path) -> bytes:
    try:
        return read_regular(path)
    except OSError:  # unreadable, or no file: nothing was measured
        return b""


def _parsed(data: bytes) -> tuple[Array, int]:
    """Parse the records of a file, a row each; drop and count its torn lines."""
    if len(data) <= _SHORT and (table := _parsed_short(data)) is not None:
        return table, 0
    frame, torn = _parsed_long(data)
    return frame.cast(pl.Float64).to_numpy(order="fortran"), torn


def _parsed_short(data: bytes) -> Array | None:
    """Parse a short file, in less time than polars takes for it; ``None`` where a line is not as written."""
    try:
        lines = [line for line in data.decode("utf-8").split("\n") if line and not line.isspace()]
        records = _DECODER.decode(f"[{','.join(lines)}]")
        if len(records) != len(lines):  # an object on two lines, or two on a line
            return None
        parts = [_of_equal_names(list(alike), names) for names, alike in groupby(records, dict.keys)]
    except (AttributeError, TypeError, ValueError, OverflowError, RecursionError):
        return None
    return np.concatenate(parts) if len(parts) > 1 else parts[0] if parts else np.zeros((0, len(_COLUMNS)))


def _of_equal_names(records: list[dict[str, object]], names: Collection[str]) -> Array:
    """Make a table of records with the same names; raises ``TypeError`` for a value of another kind than written."""
    table = np.full((len(records), len(_COLUMNS)), np.nan, order="F")
    for place, name in enumerate(_COLUMNS):
        if name in names:
            values = [record[name] for record in records]
            if not set(map(type, values)) <= (_FLAGS if place == _COMPILED else _NUMBERS):
                raise TypeError(f"{name} is of another kind")
            table[:, place] = np.array(values, np.float64)
    return table


def _not_a_number(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_not_a_number)


def _parsed_long(data: bytes) -> tuple[pl.DataFrame, int]:
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
            value = parse_json(line)
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
