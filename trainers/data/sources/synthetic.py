"""Deterministic random examples for benchmarks, with learnable labels: images, or sequences of tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np

from saman.trainers.data.interface import Context, Splits
from saman.trainers.data.sources.arrays import scaled, splits

LARGEST_BYTES = 256 << 20  # in memory; further examples are repetitions


def load(
    context: Context,
    validation_fraction: float,
    shape: Sequence[int],
    classes: int,
    examples: int,
    vocabulary: int | None = None,
) -> Splits:
    """Return uint8 images, or int32 token ids, with int32 labels.

    Args:
        context: The seed.
        validation_fraction: The share of validation examples.
        shape: The shape of an example.
        classes: The number of classes.
        examples: The number of examples.
        vocabulary: The number of token ids; ``None`` for images.
    """
    return _load(context.seed, validation_fraction, tuple(shape), classes, examples, vocabulary)


@cache
def _load(
    seed: int, fraction: float, shape: tuple[int, ...], classes: int, examples: int, vocabulary: int | None
) -> Splits:
    rng = np.random.default_rng([seed, 2])
    held = min(examples, max(classes, LARGEST_BYTES // (math.prod(shape) * (4 if vocabulary else 1))))
    labels = rng.integers(0, classes, held, dtype="int32")
    draw = _images if vocabulary is None else _tokens
    inputs = draw(rng, labels, shape, classes, vocabulary or 256)
    normalize = scaled(255.0) if vocabulary is None else None
    return splits(inputs, labels, fraction, seed, normalize, examples, name="synthetic")


def _images(
    rng: np.random.Generator, labels: np.ndarray, shape: tuple[int, ...], classes: int, values: int
) -> np.ndarray:
    """Return noise added to the pattern of each example's class."""
    patterns = rng.integers(0, values // 2, (classes, *shape), dtype="uint8")
    return rng.integers(0, values // 2, (len(labels), *shape), dtype="uint8") + patterns[labels]


def _tokens(
    rng: np.random.Generator, labels: np.ndarray, shape: tuple[int, ...], classes: int, values: int
) -> np.ndarray:
    """Return tokens; half of them reveal the class: token mod classes is the label."""
    tokens = rng.integers(0, values, (len(labels), *shape), dtype="int32")
    column = labels.reshape(-1, *([1] * len(shape)))
    telling = np.minimum(tokens // classes * classes + column, values - 1)
    return np.where(rng.random(tokens.shape) < 0.5, telling, tokens).astype("int32")
