"""Deterministic random examples for benchmarks, with learnable labels: images, or sequences of tokens."""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from saman.configs.schemas.data.section import Data
from saman.trainers.data.division import Share
from saman.trainers.data.interface import Splits
from saman.trainers.data.sources.arrays import scaled, splits
from saman.trainers.user_code.context import Context

LARGEST_BYTES = 256 << 20  # in memory; further examples are repetitions


def load(context: Context, data: Data) -> Splits:
    """Return uint8 images, or int32 token ids, with int32 labels.

    Args:
        context: The context of the run; its seed draws the examples.
        data: Its arguments ``shape``, ``classes``, ``examples``, and ``vocabulary`` (``None`` for images).
    """
    args = data.args
    shape, vocabulary = tuple(args["shape"]), args.get("vocabulary")
    return _load(context.seed, Share.of(data), shape, args["classes"], args["examples"], vocabulary)


@cache
def _load(
    seed: int, share: Share, shape: tuple[int, ...], classes: int, examples: int, vocabulary: int | None
) -> Splits:
    rng = np.random.default_rng([seed, 2])
    held = min(examples, max(classes, LARGEST_BYTES // (math.prod(shape) * (4 if vocabulary else 1))))
    labels = rng.integers(0, classes, held, dtype="int32")
    draw = _images if vocabulary is None else _tokens
    inputs = draw(rng, labels, shape, classes, vocabulary or 256)
    normalize = scaled(255.0) if vocabulary is None else None
    return splits(inputs, labels, share, seed, normalize, examples, name="synthetic")


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
