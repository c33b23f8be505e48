"""Formats numbers as text, and rows as a table of the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from saman.scaling.report.writer import CellKind, Column, Table, TableKind
from saman.scaling.statistics.intervals import Estimate, Quartiles

Row = TypeVar("Row")
_MOST_ROWS = 400  # of a table on the page; tables/ has all


@dataclass(frozen=True)
class CellColumn(Generic[Row]):
    """A column of a table on the page: its name, the text of a row's cell, and the kind of its cells.

    A terminal shows the ``main`` columns only.
    """

    name: str
    text: Callable[[Row], str]
    kind: CellKind = CellKind.NUMBER
    main: bool = False


def make_table(kind: TableKind, note: str, columns: Sequence[CellColumn[Row]], rows: Sequence[Row]) -> Table:
    """Make a table for the page; of very many rows only the first.

    Args:
        kind: The kind, which gives the title.
        note: Text below the title; a cut table adds how many rows it has.
        columns: The columns, from left to right.
        rows: The rows, from top to bottom.
    """
    more = f" The first {_MOST_ROWS} of {len(rows)} rows; tables/ has all." if len(rows) > _MOST_ROWS else ""
    cells = tuple(tuple(column.text(row) for column in columns) for row in rows[:_MOST_ROWS])
    heads = tuple(Column(column.name, column.kind, column.main) for column in columns)
    return Table(kind, note + more, heads, cells)


def format_number(value: float | None, percent: bool = False) -> str:
    """A number with four digits, or a percentage; a dash for None."""
    if value is None:
        return "–"
    return f"{value:.1%}" if percent else f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def format_interval(value: float | None, low: float | None, high: float | None, percent: bool = False) -> str:
    """Format a value with its interval; without ``low`` the value alone.

    >>> format_interval(0.91, 0.88, 0.94)
    '0.91 [0.88, 0.94]'
    """
    text = format_number(value, percent)
    return text if low is None else f"{text} [{format_number(low, percent)}, {format_number(high, percent)}]"


def format_estimate(estimate: Estimate | None, percent: bool = False) -> str:
    """An estimate with its interval, where it has any."""
    if estimate is None:
        return format_number(None)
    low, high = (estimate.interval.low, estimate.interval.high) if estimate.interval else (None, None)
    return format_interval(estimate.value, low, high, percent)


def format_quartiles(quartiles: Quartiles | None, scale: float = 1.0, percent: bool = False) -> str:
    """A median with its quartiles, times ``scale``."""
    if quartiles is None:
        return format_number(None)
    return format_interval(scale * quartiles.value, scale * quartiles.low, scale * quartiles.high, percent)
