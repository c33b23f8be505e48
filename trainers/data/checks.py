"""Checks of a sample of the data before training: missing and constant values, duplicates over parts, labels.

Pure: from arrays to problems. The experiment says which problems are warnings and which are errors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Check = Literal["missing", "constant", "duplicates", "labels", "drift"]
MOST_EXAMPLES, MOST_BYTES = 2000, 64 << 20  # of a part's sample
_MOST_NAMED = 5  # columns and classes in a sentence
_IMBALANCE = 20  # times as many examples in the largest class as in the smallest


@dataclass(frozen=True)
class PartSample:
    """Examples of a part.

    Attributes:
        inputs: The arrays of the inputs, by name if there are several.
        labels: The labels.
    """

    inputs: Mapping[str, np.ndarray]
    labels: np.ndarray


@dataclass(frozen=True)
class DataProblem:
    """What a check found."""

    check: Check
    text: str


def find_problems(samples: Mapping[str, PartSample]) -> Iterator[DataProblem]:
    """Check samples of the parts of a data set, by the name of the part; ``train`` is among them."""
    for part, sample in samples.items():
        yield from _missing(part, sample)
    yield from _constant(samples["train"])
    yield from _duplicates(samples)
    yield from _labels(samples)


def _missing(part: str, sample: PartSample) -> Iterator[DataProblem]:
    for name, values in {**sample.inputs, "labels": sample.labels}.items():
        if values.dtype.kind == "f":
            rows = ~np.isfinite(values).reshape(len(values), -1)
            count = int(rows.any(1).sum())
            if count:
                columns = np.flatnonzero(rows.any(0)).tolist() if rows.shape[1] > 1 else []
                where = f" (columns {_listed(columns)})" if columns and values.ndim == 2 else ""
                text = f"{count} of {len(values)} {part} examples looked at have missing or infinite values in {name}"
                yield DataProblem("missing", text + where)


def _constant(train: PartSample) -> Iterator[DataProblem]:
    if len(train.labels) < 2:
        return
    for name, values in train.inputs.items():
        same = (values == values[:1]).reshape(len(values), -1).all(0)
        if same.all():
            yield DataProblem("constant", f"{name} is the same in all {len(values)} training examples looked at")
        elif values.ndim == 2 and same.any():  # columns of a table; the border of images is often constant
            columns = _listed(np.flatnonzero(same).tolist())
            yield DataProblem("constant", f"{name}: columns {columns} are the same in all training examples looked at")


def _duplicates(samples: Mapping[str, PartSample]) -> Iterator[DataProblem]:
    ids = {part: _input_ids(sample) for part, sample in samples.items()}
    parts = list(ids)
    for place, part in enumerate(parts):
        for other in parts[:place]:
            shared = int(np.isin(ids[part], ids[other]).sum())
            if shared:
                text = f"{shared} of {len(ids[part])} {part} examples looked at have the inputs of {other} examples"
                yield DataProblem("duplicates", text)


def _labels(samples: Mapping[str, PartSample]) -> Iterator[DataProblem]:
    classes = {part: _classes(sample.labels) for part, sample in samples.items()}
    train = classes["train"]
    if train is None or not len(train):
        return
    numbers, counts = np.unique(train, return_counts=True)
    if numbers[0] < 0:
        yield DataProblem("labels", f"the training examples have the negative label {numbers[0]}")
    if len(numbers) == 1 and len(train) > 1:
        yield DataProblem("labels", f"all {len(train)} training examples looked at have the label {numbers[0]}")
    elif counts.max() > _IMBALANCE * counts.min() and len(numbers) <= len(train) // 10:
        most, least = numbers[counts.argmax()], numbers[counts.argmin()]
        text = f"class {most} has {counts.max() / counts.min():.0f} times as many training examples as class {least}"
        yield DataProblem("labels", f"{text} (data.class_weights: balanced weighs them alike)")
    for part, labels in classes.items():
        if part != "train" and labels is not None:
            new = np.setdiff1d(labels, numbers).tolist()
            if new and len(numbers) <= len(train) // 10:
                text = f"{part} examples have labels that no training example looked at has: {_listed(new)}"
                yield DataProblem("labels", text)


def _classes(labels: np.ndarray) -> np.ndarray | None:
    """Return the class of each label: whole numbers, or one-hot rows; ``None`` for other labels."""
    if labels.ndim == 2 and labels.shape[1] > 1 and np.isin(labels, (0, 1)).all() and (labels.sum(1) == 1).all():
        return labels.argmax(1)
    flat = labels.reshape(-1) if labels.size == len(labels) else None
    return flat if flat is not None and flat.dtype.kind in "iu" else None


def _input_ids(sample: PartSample) -> np.ndarray:
    """Return uint64[n]: a hash of the inputs of each example, its label left out."""
    ids = np.empty(len(sample.labels), np.uint64)
    arrays = [np.ascontiguousarray(values) for values in sample.inputs.values()]
    for row in range(len(ids)):
        digest = hashlib.blake2b(digest_size=8)
        for values in arrays:
            digest.update(_row_bytes(values, row))
        ids[row] = int.from_bytes(digest.digest(), "big")
    return ids


def _row_bytes(values: np.ndarray, row: int) -> bytes:
    """Return the bytes of a row; those of an array of texts would be addresses."""
    if values.dtype.kind == "O":
        return b"\0".join(map(bytes, np.ravel(values[row])))
    return values[row].tobytes()


def _listed(items: Sequence[int]) -> str:
    more = len(items) - _MOST_NAMED
    return ", ".join(map(str, items[:_MOST_NAMED])) + (f" and {more} more" if more > 0 else "")
