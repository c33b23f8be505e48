"""Describes the training data: an identity by content, and statistics per feature for later drift checks."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from saman.trainers.assembly import PreparedData
from saman.trainers.keras_compat import tf
from saman.trainers.program.several import first_part

MOST_EXAMPLES, MOST_BYTES = 200_000, 1 << 30  # of larger data the first part is read
DESCRIBED_BYTES = 8 << 20  # of inputs, and of labels, that statistics are of; they lie in memory
BLOCK_NUMBERS = 1 << 18  # that are described at a time, as float64
MOST_FEATURES = 1024  # beyond, statistics are per channel (the last axis)
QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)


@dataclass(frozen=True)
class Census:
    """The description of the training data.

    Attributes:
        identity: Number of examples and identity by content, for the export record.
        statistics: Statistics per feature of inputs and labels, for the export record.
        training_ids: uint64[n]: sorted ids of the examples, to check later samples for overlap.
    """

    identity: dict[str, Any]
    statistics: dict[str, Any]
    training_ids: np.ndarray


def take_census(prepared: PreparedData) -> Census:
    """Read the training data in their own order, up to a bound, and describe them.

    Every example gets its id; statistics are of the first ``DESCRIBED_BYTES``, so that a rank needs no more memory at
    its end than while it trained.
    """
    feed = prepared.feeds.train(0)
    bound = max(1, min(MOST_EXAMPLES, MOST_BYTES // max(1, example_bytes(prepared.element_spec))))
    input_batches: list[list[np.ndarray]] = []
    label_batches: list[np.ndarray] = []
    id_batches: list[np.ndarray] = []
    read = input_bytes = label_bytes = 0
    for inputs, labels in feed.whole_batches():
        batch, answers = (
            [np.asarray(part) for part in tf.nest.flatten(inputs)],
            np.asarray(first_part(labels, prepared.train) if prepared.train else labels),
        )
        id_batches.append(example_ids(batch, answers))
        if input_bytes < DESCRIBED_BYTES:
            input_batches.append(batch)
            input_bytes += sum(part.nbytes for part in batch)
        if label_bytes < DESCRIBED_BYTES:
            label_batches.append(answers)
            label_bytes += answers.nbytes
        read += len(answers)
        if read >= bound:
            break
    parts = [np.concatenate(part) for part in zip(*input_batches, strict=True)]
    input_batches.clear()  # a rank keeps one copy while it describes
    ids = np.concatenate(id_batches)
    known = dict(prepared.splits(0).identity or {})
    if prepared.identity is not None:
        known |= {"files_digest": prepared.identity.digest, "files_hashed": prepared.identity.hashed}
        known |= {"croissant": dict(prepared.identity.croissant)} if prepared.identity.croissant else {}
    identity = {"training_examples": feed.examples, "examples_read": read, **known}
    # A sum does not depend on the order of the ids, so not on the seed that shuffles.
    identity["training_content"] = f"{int(np.sum(ids, dtype=np.uint64)):016x}" if read >= feed.examples else None
    statistics = {
        "inputs": [_describe_features(part) for part in parts],
        "labels": _describe_labels(np.concatenate(label_batches)),
        "examples": len(parts[0]),
    }
    return Census(identity, statistics, np.unique(ids))


def example_bytes(spec: Any) -> int:
    """Return the bytes of an example for the census in the export; axes of unknown length count as 1."""
    parts = tf.nest.flatten(spec)
    return sum(int(np.prod([size or 1 for size in part.shape[1:]])) * part.dtype.size for part in parts)


def example_ids(inputs: Sequence[np.ndarray], labels: np.ndarray) -> np.ndarray:
    """Return the uint64 id of each example for the census in the export: BLAKE2b of its raw input and label."""
    ids = np.empty(len(labels), "uint64")
    for row in range(len(labels)):
        digest = hashlib.blake2b(digest_size=8)
        for part in (*inputs, labels):
            digest.update(np.ascontiguousarray(part[row]).tobytes())
        ids[row] = int.from_bytes(digest.digest(), "big")
    return ids


def _describe_features(values: np.ndarray) -> dict[str, Any]:
    """Return mean, deviation and quantiles of each entry of an example, or of each channel of large examples."""
    count = int(np.prod(values.shape[1:]))
    per_channel = count > MOST_FEATURES
    table = values.reshape(-1, values.shape[-1]) if per_channel else values.reshape(len(values), -1)
    if not np.issubdtype(table.dtype, np.number):
        return {"per": "none", "features": count}
    if len(table) > MOST_EXAMPLES:  # channels of many pixels: every n-th row is enough for a quantile
        table = table[:: len(table) // MOST_EXAMPLES + 1]
    width = max(1, BLOCK_NUMBERS // max(1, len(table)))
    mean, deviation, *quantiles = np.hstack(
        [_describe_columns(table[:, start : start + width]) for start in range(0, max(1, table.shape[1]), width)]
    )
    return {
        "per": "channel" if per_channel else "element",
        "features": table.shape[1],
        "mean": _round(mean),
        "std": _round(deviation),
        "quantiles": {f"{level:g}": _round(row) for level, row in zip(QUANTILES, quantiles, strict=True)},
    }


def _describe_columns(columns: np.ndarray) -> np.ndarray:
    """Return mean, deviation and quantiles of each column, a row for each."""
    wide = columns.astype("float64")
    return np.vstack([wide.mean(0), wide.std(0), np.quantile(wide, QUANTILES, 0)])


def _describe_labels(labels: np.ndarray) -> dict[str, Any]:
    """Return the counts of integer classes, or the statistics of other labels."""
    if np.issubdtype(labels.dtype, np.integer) and labels.ndim == 1:
        classes, counts = np.unique(labels, return_counts=True)
        if len(classes) <= MOST_FEATURES:
            return {"counts": {str(label): int(count) for label, count in zip(classes, counts, strict=True)}}
    return _describe_features(labels.reshape(len(labels), -1))


def _round(values: np.ndarray) -> list[float | None]:
    """Round to six significant digits; ``None`` stands for NaN, which JSON lacks."""
    return [float(f"{value:.6g}") if np.isfinite(value) else None for value in values]
