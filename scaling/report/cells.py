"""How numbers become the text of cells, and rows a table of the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from saman.scaling.report.writer import Column, Table
from saman.scaling.statistics.estimates import Rows

Cells = Sequence[tuple[str, str, Callable[[dict[str, Any]], str]]]  # name, kind and text of each column
_MOST_ROWS = 400  # of a table on the page; all of it is in tables/


def make_table(title: str, note: str, columns: Cells, rows: Rows) -> Table:
    """A table for the page; of very many rows the first."""
    shown = rows[:_MOST_ROWS]
    more = f" The first {_MOST_ROWS} of {len(rows)} rows; all are in tables/." if len(rows) > _MOST_ROWS else ""
    cells = tuple(tuple(tell(row) for _, _, tell in columns) for row in shown)
    return Table(title, note + more, tuple(Column(name, kind) for name, kind, _ in columns), cells)


def told(value: float | None, percent: bool = False) -> str:
    """A number for a cell; a dash for none."""
    if value is None:
        return "–"
    return f"{value:.1%}" if percent else f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def between(row: dict[str, Any], name: str, percent: bool = False) -> str:
    """A value with its interval for a cell."""
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    value = told(row[name], percent)
    return value if low is None else f"{value} [{told(low, percent)}, {told(high, percent)}]"


def around(row: dict[str, Any], value: str, low: str, high: str) -> str:
    """A value with an interval of other names for a cell."""
    text = told(row[value])
    return text if row[low] is None else f"{text} [{told(row[low])}, {told(row[high])}]"
