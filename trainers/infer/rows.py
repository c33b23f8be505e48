"""Rows of inputs: their types, and the check that fits them to the model.

A bad row keeps its place: it becomes zeros and gets an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class UnreadableInput(Exception):  # noqa: N818
    """A whole file is unreadable. A bad row does not raise: it gets an error."""


@dataclass(frozen=True)
class InputSpec:
    """The dtype that the model takes, and the shape of an example (``None`` for any length)."""

    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class RowBatch:
    """Consecutive rows: ``values`` (examples first), and per row its error (``None`` for a good row) and source."""

    values: Array
    errors: list[str | None]
    names: list[str]


@dataclass(frozen=True)
class RowSource:
    """A file or folder of rows. ``read(start, stop)`` is cheapest with increasing positions."""

    path: Path
    kind: str
    rows: int
    read: Callable[[int, int], RowBatch]


@dataclass(frozen=True)
class InputBatch:
    """Consecutive rows for every input of a model: ``values`` by its name; errors and sources as in ``RowBatch``."""

    values: dict[str, Array]
    errors: list[str | None]
    names: list[str]


@dataclass(frozen=True)
class InputSource:
    """A file or folder with the rows of every input. ``read(start, stop)`` is cheapest with increasing positions."""

    path: Path
    kind: str
    rows: int
    read: Callable[[int, int], InputBatch]


def convert_rows(values: Array, wanted: InputSpec) -> tuple[Array, list[str | None]]:
    """Convert rows to the dtype that the model takes.

    Args:
        values: Rows, examples first.
        wanted: What the model takes.

    Returns:
        The values (zeros for bad rows), and per row its error: a value is not finite, or does not fit the dtype.

    Raises:
        ValueError: The shape does not fit.
    """
    count = len(values)
    target: np.dtype[Any] = np.dtype(wanted.dtype)
    size = math.prod(values.shape[1:])
    flat = values.reshape(count, size)
    bad: list[str | None] = [None] * count
    with np.errstate(invalid="ignore", over="ignore"):
        fitted = flat.astype(target)
    if np.issubdtype(flat.dtype, np.floating):
        _mark(bad, np.asarray(~np.isfinite(flat).all(axis=1)), "a value is not finite")
    if np.issubdtype(target, np.integer) and flat.dtype != target:
        with np.errstate(invalid="ignore"):
            changed = (fitted.astype("float64") != flat.astype("float64")).any(axis=1)
        _mark(bad, changed, f"a value does not fit {target.name}")
    for index, reason in enumerate(bad):
        if reason:
            fitted[index] = 0
    return fitted.reshape(count, *fit_shape(values.shape[1:], wanted)), bad


def _mark(bad: list[str | None], rows: Any, reason: str) -> None:
    for index in np.flatnonzero(rows):
        bad[index] = bad[index] or reason


def fit_shape(shape: tuple[int, ...], wanted: InputSpec) -> tuple[int, ...]:
    """The model's shape for examples of ``shape``: an axis of 1 may be missing or extra, and rows may be flat."""
    if len(shape) == len(wanted.shape) and all(w in (None, s) for s, w in zip(shape, wanted.shape, strict=True)):
        return shape
    if None not in wanted.shape and math.prod(shape) == math.prod(int(w or 1) for w in wanted.shape):
        return tuple(int(w or 1) for w in wanted.shape)
    raise ValueError(f"examples have shape {list(shape)}, the model takes {list(wanted.shape)}")
