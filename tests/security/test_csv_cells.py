"""Text in CSV tables of a report is no formula when a spreadsheet opens it."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import polars as pl
import pytest

from saman.scaling.report.writer import _write_table, without_formulas

FORMULAS = ('=HYPERLINK("http://x","y")', "+1+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "  =1+1", "\n=1")


@pytest.mark.parametrize("formula", FORMULAS)
def test_a_cell_or_a_heading_with_a_formula_is_text(formula: str) -> None:
    frame = pl.DataFrame({"node": [formula, "n01", None], formula: ["a", "b", "c"]})
    rows = list(csv.reader(io.StringIO(without_formulas(frame).write_csv())))
    assert all(cell.lstrip()[:1] not in tuple("=+-@") for row in rows for cell in row)
    assert rows[1][0] == f"'{formula}" and rows[2][0] == "n01"


def test_numbers_stay_numbers() -> None:
    frame = pl.DataFrame({"slope": [-1.5, 2.0], "ranks": [1, -2]})
    assert without_formulas(frame).equals(frame)


def test_a_written_table_holds_no_formula(tmp_path: Path) -> None:
    _write_table(pl.DataFrame({"node": ["=1+1"]}), tmp_path / "runs")
    assert (tmp_path / "runs.csv").read_text() == "node\n'=1+1\n"
    assert pl.read_parquet(tmp_path / "runs.parquet")["node"].to_list() == ["=1+1"]
