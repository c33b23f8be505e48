"""Columns of Parquet and CSV files with random access: decoded once into mapped arrays, row group by row group.

Any order of rows then costs the same. Decoding row groups on demand would decode each of them once per rank and batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from saman.configs.errors import UserError, choices
from saman.trainers.data.interface import RandomAccess
from saman.trainers.data.readers.array_files import rows_of
from saman.trainers.data.readers.damage import DamageList, DataDamage, OnCorrupt, reason_of, require_files
from saman.trainers.data.readers.index import IndexWriter, cached_index

if TYPE_CHECKING:
    import polars as pl

_ROWS_AT_ONCE = 1 << 16
Format = Literal["parquet", "csv"]


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns that make an example.

    Attributes:
        inputs: Columns of numbers, or a single column of lists of equal length; empty for all but the next two.
        label: The column of labels: numbers, or names of classes.
        weight: The column of the examples' weights; ``None`` for none.
        dtype: The type of the inputs, if they are several columns.
    """

    inputs: tuple[str, ...] = ()
    label: str
    weight: str | None = None
    dtype: Literal["float32", "float64", "int32", "int64"] = "float32"


@dataclass(frozen=True)
class TableRows:
    """The rows of files: examples (inputs, label) or (inputs, label, weight), and the names of the classes."""

    access: RandomAccess
    classes: tuple[str, ...]
    inputs: tuple[str, ...]


def table_rows(files: Sequence[Path], kind: Format, columns: Columns, on_corrupt: OnCorrupt = "stop") -> TableRows:
    """Return the rows of Parquet or CSV files. Missing inputs are NaN; a row without a label is damage.

    Args:
        files: The files, with equal columns.
        kind: Their format; CSV files begin with a line of names.
        columns: The columns to read.
        on_corrupt: Whether damage stops the run or is left out: a row, or up to 65,536 rows of a Parquet file.

    Raises:
        UserError: A file is damaged or lacks a column.
    """
    index = cached_index(
        kind, files, asdict(columns), on_corrupt, lambda writer: _Decoder(writer, files, kind, columns).decode()
    )
    names = ["inputs", "labels", *(["weights"] if columns.weight else [])]
    if "inputs" not in index.arrays:
        raise UserError("no row could be read", where=str(files[0]), remedy="restore the files")
    arrays = [index.arrays[name] for name in names]
    access = rows_of(arrays, files, skipped=index.skipped, lost=index.skipped_examples)
    return TableRows(access, tuple(index.facts["classes"]), tuple(index.facts["inputs"]))


class _Decoder:
    """Writes the columns of files to an index."""

    def __init__(self, writer: IndexWriter, files: Sequence[Path], kind: Format, columns: Columns) -> None:
        self.writer, self.kind, self.columns = writer, kind, columns
        self.files = require_files(files, writer.damages)
        self.inputs: tuple[str, ...] = columns.inputs

    def decode(self) -> None:
        """Write the arrays ``inputs``, ``labels`` and ``weights``, and the facts ``classes`` and ``inputs``."""
        opened = [(path, frame) for path in self.files if (frame := self._open(path)) is not None]
        find = self._label_finder(opened)
        for path, frame in opened:
            for first, part in _pieces(path, frame, self._wanted(), self.writer.damages):
                self._write(path, first, part, find)
        self.writer.facts["inputs"] = list(self.inputs)
        for copy in self.writer.folder.glob("csv-*.parquet"):
            copy.unlink()

    def _open(self, path: Path) -> pl.LazyFrame | None:
        """Open a file; a CSV file is first converted to Parquet, because it has no random access of any kind."""
        import polars as pl

        try:
            if self.kind == "parquet":
                frame = pl.scan_parquet(path, glob=False)
            else:
                copy, skips = self.writer.folder / f"csv-{self.files.index(path)}.parquet", not self.writer.damages.stop
                pl.scan_csv(path, infer_schema=False, truncate_ragged_lines=skips, glob=False).sink_parquet(copy)
                frame = pl.scan_parquet(copy, glob=False)
            schema = frame.collect_schema()
        except _failures() as error:
            self.writer.damages.add(DataDamage(str(path), f"this is not a sound {self.kind} file: {reason_of(error)}"))
            return None
        others = {self.columns.label, self.columns.weight}
        if not self.inputs:
            numbers = [name for name, kind in schema.items() if kind.is_numeric() or self.kind == "csv"]
            self.inputs = tuple(name for name in numbers if name not in others)
        for name in self._wanted():
            if name not in schema:
                raise UserError(f"the column {name!r} is missing", where=str(path), remedy=choices(name, schema))
        self._require_types(path, schema)
        return frame

    def _require_types(self, path: Path, schema: Mapping[str, pl.DataType]) -> None:
        """Refuse columns that cannot be converted to numbers or names."""
        import polars as pl

        lists = len(self.inputs) == 1 and isinstance(schema[self.inputs[0]], pl.List | pl.Array)
        if not self.inputs:
            raise UserError("no column of numbers is left for the inputs", where=str(path), remedy="name inputs")
        for name in self._wanted():
            if name in self.inputs and lists:
                continue
            kind = schema[name]
            names = (pl.String, pl.Categorical, pl.Enum) if name == self.columns.label else (pl.String,)
            if not (kind.is_numeric() or isinstance(kind, (pl.Boolean, *names))):
                raise UserError(f"the column {name!r} holds {kind}", where=str(path), remedy="name columns of numbers")

    def _wanted(self) -> list[str]:
        weight = [self.columns.weight] if self.columns.weight else []
        return [*self.inputs, self.columns.label, *weight]

    def _label_finder(self, opened: Sequence[tuple[Path, pl.LazyFrame]]) -> Callable[[pl.Series], pl.Series]:
        """Return what turns the column of labels into int32 or float32; nulls stand for labels that are no labels."""
        import polars as pl

        whole, number = True, True
        names: set[str] = set()
        for path, frame in opened:
            for _, part in _pieces(path, frame, [self.columns.label], DamageList("skip", quiet=True)):
                labels = _named(part.to_series().drop_nulls())
                if labels.dtype == pl.String:
                    number = number and labels.cast(pl.Float64, strict=False).null_count() == 0
                    whole = whole and number and labels.cast(pl.Int32, strict=False).null_count() == 0
                    names.update(labels.unique() if len(names) < 1 << 20 else ())
                else:
                    whole = whole and not labels.dtype.is_float()
        classes = [] if number else sorted(names)
        self.writer.facts["classes"] = classes
        if classes:
            numbers = {name: place for place, name in enumerate(classes)}
            return lambda labels: _named(labels).replace_strict(numbers, default=None, return_dtype=pl.Int32)
        return lambda labels: _named(labels).cast(pl.Int32 if whole else pl.Float32, strict=False)

    def _write(self, path: Path, first: int, part: pl.DataFrame, find: Callable[[pl.Series], pl.Series]) -> None:
        """Append the sound rows of a piece that begins with row ``first`` of the file."""
        import polars as pl

        good = np.ones(len(part), bool)
        labels = find(part[self.columns.label])
        self._note(path, first, good, labels.is_null(), part[self.columns.label], "no label")
        weights = None
        if self.columns.weight:
            weights = part[self.columns.weight].cast(pl.Float32, strict=False)
            wrong = weights.is_null() | ~weights.fill_null(0).is_finite() | (weights.fill_null(0) < 0)
            self._note(path, first, good, wrong, part[self.columns.weight], "no weight")
        inputs = self._values(path, first, part, good)
        self.writer.append("inputs", inputs[good])
        self.writer.append("labels", labels.fill_null(0).to_numpy()[good])
        if weights is not None:
            self.writer.append("weights", weights.fill_null(0).to_numpy()[good])

    def _values(self, path: Path, first: int, part: pl.DataFrame, good: np.ndarray) -> np.ndarray:
        import polars as pl

        if len(self.inputs) == 1 and part[self.inputs[0]].dtype.is_nested():
            return self._lists(path, first, part[self.inputs[0]], good)
        columns = []
        for name in self.inputs:
            values = part[name].cast(pl.Float64, strict=False)
            self._note(path, first, good, values.is_null() & part[name].is_not_null(), part[name], f"no {name}")
            if self.columns.dtype.startswith("int"):
                self._note(path, first, good, values.is_null(), part[name], f"no {name}")
                values = part[name].cast(pl.Int64, strict=False).fill_null(0)
            columns.append(values.to_numpy().astype(self.columns.dtype))
        return np.stack(columns, 1)

    def _lists(self, path: Path, first: int, lists: pl.Series, good: np.ndarray) -> np.ndarray:
        """Return the rows of a column of lists, all as long as the first."""
        import polars as pl

        values = lists.to_list() if lists.dtype == pl.Array else None
        sizes = np.array([len(row or ()) for row in values]) if values else lists.list.len().fill_null(0).to_numpy()
        first_size = next((int(size) for size in sizes if size), 0)
        width = int(self.writer.facts.get("width") or first_size)
        self.writer.facts["width"] = width
        inner = lists.explode()
        if not inner.dtype.is_numeric():
            raise UserError(f"{lists.name} holds {lists.dtype}", where=str(path), remedy="name columns of numbers")
        wrong = pl.Series((sizes != width) | (sizes == 0))
        self._note(path, first, good, wrong, pl.Series(sizes), f"not {width} values")
        kept = lists.filter(~wrong).explode()
        rows = np.zeros((len(lists), width), inner.fill_null(0).to_numpy().dtype)
        rows[sizes == width] = kept.fill_null(0).to_numpy().reshape(-1, width)
        return rows

    def _note(self, path: Path, first: int, good: np.ndarray, wrong: pl.Series, found: pl.Series, lacks: str) -> None:
        for row in np.flatnonzero(wrong.to_numpy() & good).tolist():
            place = f"row {first + row + 1}"
            self.writer.damages.add(DataDamage(str(path), f"{lacks}: found {found[row]!r}", place))
            good[row] = False


def _pieces(
    path: Path, frame: pl.LazyFrame, columns: Sequence[str], damages: DamageList
) -> Iterator[tuple[int, pl.DataFrame]]:
    """Yield the first row and the columns of each piece of a file that can be read."""
    import polars as pl

    try:
        rows = int(frame.select(pl.len()).collect().item())
    except _failures() as error:
        damages.add(DataDamage(str(path), f"this file cannot be read: {reason_of(error)}"))
        return
    for first in range(0, rows, _ROWS_AT_ONCE):
        count = min(_ROWS_AT_ONCE, rows - first)
        try:
            yield first, frame.select(columns).slice(first, count).collect()
        except _failures() as error:
            place = f"rows {first + 1} to {first + count}"
            damages.add(DataDamage(str(path), f"these rows cannot be read: {reason_of(error)}", place, count))


def _failures() -> tuple[type[BaseException], ...]:
    """Return what polars raises for damaged files; a panic of its reader is no ``Exception``."""
    import polars as pl

    return (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)


def _named(labels: pl.Series) -> pl.Series:
    """Return categories as the texts that they stand for."""
    import polars as pl

    return labels.cast(pl.String) if isinstance(labels.dtype, pl.Categorical | pl.Enum) else labels
