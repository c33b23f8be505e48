"""Turns typed rows of a table into named columns, for CSV, Parquet, JSON and figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import Field, dataclass, fields
from functools import lru_cache
from typing import Any, ClassVar, Protocol, get_args, get_type_hints

import polars as pl

from saman.scaling.statistics.intervals import Estimate, Quartiles

Columns = dict[str, Any]


@dataclass(frozen=True)
class ColumnName:
    """The name of a field's column where it differs from the field: ``Annotated[float, ColumnName("low")]``."""

    name: str


class Row(Protocol):
    """A dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


def to_columns(row: Row) -> Columns:
    """The columns of a row of statistics, in the order of its fields.

    A field is a column of its name. An ``Estimate`` becomes five columns (value, interval, attained coverage, and the
    method or the reason for withholding an interval), ``Quartiles`` three (median, low, high).
    """
    found: Columns = {}
    for field, expand in _expansions(type(row)):
        found |= expand(getattr(row, field))
    return found


def to_frame(rows: Sequence[Row]) -> pl.DataFrame:
    """A data frame of rows."""
    return pl.DataFrame([to_columns(row) for row in rows], infer_schema_length=None)


@lru_cache(maxsize=64)
def _expansions(kind: type[Row]) -> tuple[tuple[str, Callable[[Any], Columns]], ...]:
    """For each field the function from its value to its columns."""
    hints = get_type_hints(kind, include_extras=True)
    return tuple((field.name, _expansion(field.name, hints[field.name])) for field in fields(kind))


def _expansion(name: str, hint: Any) -> Callable[[Any], Columns]:
    column = next((entry.name for entry in getattr(hint, "__metadata__", ()) if isinstance(entry, ColumnName)), name)
    types = (hint, *get_args(hint))
    if Estimate in types:
        return lambda value: _estimate_columns(column, value)
    if Quartiles in types:
        return lambda value: _quartile_columns(column, value)
    return lambda value: {column: value}


def _estimate_columns(name: str, estimate: Estimate | None) -> Columns:
    if estimate is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None, f"{name}_coverage": None, f"{name}_note": None}
    interval = estimate.interval
    return {
        name: estimate.value,
        f"{name}_low": interval.low if interval else None,
        f"{name}_high": interval.high if interval else None,
        f"{name}_coverage": interval.attained if interval else None,
        f"{name}_note": interval.method if interval else estimate.withheld,
    }


def _quartile_columns(name: str, quartiles: Quartiles | None) -> Columns:
    if quartiles is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    return {name: quartiles.value, f"{name}_low": quartiles.low, f"{name}_high": quartiles.high}
