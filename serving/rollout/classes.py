"""The predicted classes of an answer, for the comparison of versions. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np

from saman.registry.rollout.evidence import CLASSES
from saman.serving.routing import Arrays


def predicted_classes(outputs: Arrays) -> list[int] | None:
    """The class of each row: the largest of several scores, an integer itself, else a bin of the number.

    Returns:
        ``None`` where the answer has no numbers, or several outputs (the first by name would be arbitrary).
    """
    if len(outputs) != 1:
        return None
    [values] = outputs.values()
    if values.size == 0 or values.dtype.kind not in "iufb":
        return None
    rows = values.reshape(len(values), -1) if values.ndim > 1 else values.reshape(-1, 1)
    if rows.shape[1] > 1:
        return [int(index) for index in np.argmax(rows, axis=1)]
    column = rows[:, 0]
    if values.dtype.kind in "iub":
        return [int(value) for value in column]
    return [_bin(float(value)) for value in column]


def _bin(value: float) -> int:
    """A bin of a number: probabilities by tenths; others by their size, both signs."""
    if not np.isfinite(value):
        return CLASSES - 1
    if 0.0 <= value <= 1.0:
        return min(9, int(10 * value))
    return 10 + int(np.clip(np.round(3 * np.arcsinh(value)) + 26, 0, 52))


def is_wrong(outputs: Arrays, label: Any) -> bool | None:
    """Whether the first row of an answer misses its label; ``None`` where the answer has no classes.

    A single score in [0, 1] is a probability, with the threshold 0.5.
    """
    if len(outputs) != 1:
        return None
    [values] = outputs.values()
    if values.size == 0 or values.dtype.kind not in "iufb":
        return None
    first = np.ravel(values.reshape(len(values), -1)[0] if values.ndim else values)
    if first.size > 1:
        return bool(int(np.argmax(first)) != label)
    if values.dtype.kind in "iub":
        return bool(int(first[0]) != label)
    return bool(first[0] >= 0.5) != bool(label) if 0.0 <= first[0] <= 1.0 and label in (0, 1) else None
