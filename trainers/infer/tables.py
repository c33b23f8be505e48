"""Rows of Parquet files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from saman.trainers.infer.rows import Array, InputSpec, RowBatch, RowSource, convert_rows


def open_parquet(path: Path, wanted: InputSpec, column: str | None = None) -> RowSource:
    """Open a Parquet file: a column, or ``inputs`` of lists, else every numeric column, in order, as a feature."""
    import polars as pl

    frame = pl.scan_parquet(path)
    schema = frame.collect_schema()
    columns = ["inputs"] if "inputs" in schema else [name for name, dtype in schema.items() if dtype.is_numeric()]
    if column is not None:
        if column not in schema:
            raise ValueError(f"it has the columns {', '.join(schema)}, but not {column}")
        columns = [column]
    if not columns:
        raise ValueError("it has neither a column inputs nor a numeric column")
    size = math.prod(int(w or 1) for w in wanted.shape)
    if len(columns) > 1 and len(columns) != size:
        raise ValueError(f"it has {len(columns)} numeric columns, but the model takes {size} values per row")
    rows = int(frame.select(pl.len()).collect().item())

    def read(first: int, last: int) -> RowBatch:
        part = frame.select(columns).slice(first, last - first).collect()
        values, errors = _features(part, size) if len(columns) > 1 else _lists(part.to_series(), size)
        shaped, bad = convert_rows(values.reshape(len(errors), size), wanted)
        errors = [ours or theirs for ours, theirs in zip(errors, bad, strict=True)]
        return RowBatch(shaped, errors, [path.name] * len(errors))

    return RowSource(path, "parquet", rows, read)


def _features(part: Any, size: int) -> tuple[Array, list[str | None]]:
    import polars as pl

    lacking = part.select(pl.any_horizontal(pl.all().is_null())).to_series().to_list()
    values = part.fill_null(0).to_numpy().reshape(-1, size)
    return values, ["a value is missing" if lack else None for lack in lacking]


def _lists(column: Any, size: int) -> tuple[Array, list[str | None]]:
    if not column.dtype.is_nested():
        errors = ["a value is missing" if lack else None for lack in column.is_null().to_list()]
        return column.fill_null(0).to_numpy().reshape(-1, 1), errors
    values, errors = np.zeros((len(column), size)), []
    for index, row in enumerate(column.to_list()):
        reason = None
        try:
            flat = np.asarray(row, dtype="float64").reshape(-1)
            if row is None or np.isnan(flat).any() and _has_none(row):
                reason = "a value is missing"
            elif len(flat) != size:
                reason = f"it has {len(flat)} values instead of {size}"
            else:
                values[index] = flat
        except (TypeError, ValueError):
            reason = "a value is not a number"
        errors.append(reason)
    return values, errors


def _has_none(row: Any) -> bool:
    return any(_has_none(value) if isinstance(value, list) else value is None for value in row)
