"""What the training data are: identity by content, and statistics per feature for later drift checks."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from saman.trainers.assembly import PreparedData
from saman.trainers.data.feed import Slice
from saman.trainers.keras_compat import tf

LARGEST_EXAMPLES, LARGEST_BYTES = 200_000, 1 << 30  # read at the end of a run; of larger data the first part
LARGEST_FEATURES = 1024  # beyond, statistics are per channel (the last axis)
QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)


@dataclass(frozen=True)
class Census:
    """``training_ids`` are the examples' ids, so that a later validation sample can be checked for overlap."""

    identity: dict[str, Any]
    statistics: dict[str, Any]
    training_ids: np.ndarray


def take(prepared: PreparedData) -> Census:
    """Read the training data in their own order, up to a bound."""
    feed = prepared.feeds.train(0)
    bound = max(1, min(LARGEST_EXAMPLES, LARGEST_BYTES // max(1, bytes_of(prepared.element_spec))))
    inputs, labels = [], []
    seen = 0
    for one, label in feed.batches(Slice(0, 1)):
        inputs.append([np.asarray(part) for part in tf.nest.flatten(one)])
        labels.append(np.asarray(label))
        seen += len(labels[-1])
        if seen >= bound:
            break
    parts = [np.concatenate(part) for part in zip(*inputs, strict=True)]
    answers = np.concatenate(labels)
    marks = ids(parts, answers)
    known = dict(prepared.splits(0).identity or {})
    identity = {"training_examples": feed.examples, "examples_read": len(answers), **known}
    # The sum of ids does not depend on their order, so neither on the seed that shuffles.
    identity["training_content"] = f"{int(np.sum(marks, dtype=np.uint64)):016x}" if seen >= feed.examples else None
    statistics = {
        "inputs": [_of_features(part) for part in parts],
        "labels": _of_labels(answers),
        "examples": len(answers),
    }
    return Census(identity, statistics, np.unique(marks))


def bytes_of(spec: Any) -> int:
    """Bytes of one example of a batch's spec; axes of unknown length count as 1."""
    return sum(int(np.prod([n or 1 for n in one.shape[1:]])) * one.dtype.size for one in tf.nest.flatten(spec))


def ids(inputs: Sequence[np.ndarray], labels: np.ndarray) -> np.ndarray:
    """uint64 id of each example: BLAKE2b of its raw input and its label."""
    found = np.empty(len(labels), "uint64")
    for row in range(len(labels)):
        digest = hashlib.blake2b(digest_size=8)
        for part in (*inputs, labels):
            digest.update(np.ascontiguousarray(part[row]).tobytes())
        found[row] = int.from_bytes(digest.digest(), "big")
    return found


def _of_features(values: np.ndarray) -> dict[str, Any]:
    """Mean, deviation and quantiles of each feature: each entry of an example, or each channel of large ones."""
    count = int(np.prod(values.shape[1:]))
    per_channel = count > LARGEST_FEATURES
    table = values.reshape(-1, values.shape[-1]) if per_channel else values.reshape(len(values), -1)
    if not np.issubdtype(table.dtype, np.number):
        return {"per": "none", "features": count}
    if len(table) > LARGEST_EXAMPLES:  # channels of many pixels: every n-th is enough for a quantile
        table = table[:: len(table) // LARGEST_EXAMPLES + 1]
    wide = table.astype("float64")
    return {
        "per": "channel" if per_channel else "element",
        "features": wide.shape[1],
        "mean": _plain(wide.mean(0)),
        "std": _plain(wide.std(0)),
        "quantiles": {f"{q:g}": _plain(row) for q, row in zip(QUANTILES, np.quantile(wide, QUANTILES, 0), strict=True)},
    }


def _of_labels(labels: np.ndarray) -> dict[str, Any]:
    if np.issubdtype(labels.dtype, np.integer) and labels.ndim == 1:
        classes, counts = np.unique(labels, return_counts=True)
        if len(classes) <= LARGEST_FEATURES:
            return {"counts": {str(one): int(count) for one, count in zip(classes, counts, strict=True)}}
    return _of_features(labels.reshape(len(labels), -1))


def _plain(values: np.ndarray) -> list[float | None]:
    """Six significant digits, without NaN, which JSON lacks."""
    return [float(f"{value:.6g}") if np.isfinite(value) else None for value in values]
