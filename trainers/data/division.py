"""Divides examples into training, validation and test parts, without a list of all examples.

A permutation that depends on the seed alone draws the held-out examples: test examples first, then those of a fold or
of the validation. Only held-out positions are kept; the others are found by counting.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from saman.configs.errors import UserError
from saman.configs.schemas.data.section import Data
from saman.trainers.data.interface import RandomAccess
from saman.trainers.data.order import permute
from saman.trainers.keras_compat import tf
from saman.trainers.user_code.graphs import in_graph

_AT_ONCE = 1 << 20
_DIVISION = 1 << 20  # an epoch that no training reaches: the draw is independent of the order of every epoch


@dataclass(frozen=True)
class Share:
    """How many examples are held out, and which.

    Attributes:
        validation: The share of validation examples, without folds.
        test: The share of test examples; they are the same for all folds.
        fold: The fold that is for validation, from 0; ``None`` without cross-validation.
        folds: The number of folds.
    """

    validation: float = 0.0
    test: float = 0.0
    fold: int | None = None
    folds: int = 1

    @classmethod
    def of(cls, data: Data, has_validation: bool = False, has_test: bool = False) -> Share:
        """Return what the experiment holds out; nothing for a part that the source brings as files of its own."""
        if data.folds is not None:
            return cls(0.0, 0.0 if has_test else data.test_fraction, data.fold, data.folds)
        validation = 0.0 if has_validation else data.validation_fraction
        return cls(validation, 0.0 if has_test else data.test_fraction)

    def ranges(self, examples: int) -> tuple[range, range]:
        """Return where test and validation examples lie in the drawn order.

        >>> Share(test=0.2, fold=1, folds=4).ranges(100)
        (range(0, 20), range(40, 60))
        """
        test = range(round(examples * self.test))
        left = examples - len(test)
        if self.fold is not None:
            first, last = (len(test) + left * number // self.folds for number in (self.fold, self.fold + 1))
            return test, range(first, last)
        return test, range(len(test), len(test) + min(left, round(examples * self.validation)))


@dataclass(frozen=True)
class Division:
    """Three disjoint parts that together hold each example once; ``None`` for an empty part."""

    train: RandomAccess
    validation: RandomAccess | None
    test: RandomAccess | None


def divide(source: RandomAccess, share: Share, seed: int) -> Division:
    """Divide a source by a draw that depends on the seed and the number of examples alone.

    Raises:
        UserError: No example is left for training.
    """
    test, validation = (_drawn(part, source.examples, seed) for part in share.ranges(source.examples))
    held_out = np.sort(np.concatenate([test, validation]))
    if len(held_out) >= source.examples:
        problem = f"of {source.examples} examples, {len(held_out)} are held out and none is left for training"
        raise UserError(problem, where="data.validation_fraction", remedy="hold out less")
    return Division(
        train=_without(source, held_out) if len(held_out) else source,
        validation=_only(source, validation),
        test=_only(source, test),
    )


@lru_cache(maxsize=8)  # a user's function is called in every epoch
def _drawn(part: range, examples: int, seed: int) -> np.ndarray:
    """Return sorted int64: the examples at a range of the drawn order."""
    pieces = [np.zeros(0, np.int64)]
    for first in range(part.start, part.stop, _AT_ONCE):
        places = tf.range(first, min(part.stop, first + _AT_ONCE), dtype=tf.int64)
        pieces.append(np.asarray(permute(places, examples, seed, _DIVISION)))
    return np.sort(np.concatenate(pieces))


def _only(source: RandomAccess, chosen: np.ndarray) -> RandomAccess | None:
    if not len(chosen):
        return None
    with tf.device("CPU:0"):
        held = tf.constant(chosen)
    read = in_graph(source.read)
    return replace(source, examples=len(chosen), read=lambda positions: read(tf.gather(held, positions)))


def _without(source: RandomAccess, held_out: np.ndarray) -> RandomAccess:
    """Return the source without some examples, in its own order.

    Before held-out example h[j] lie h[j] - j others, so position p comes after all j with h[j] - j <= p.
    """
    with tf.device("CPU:0"):
        others_before = tf.constant(held_out - np.arange(len(held_out)))

    def read(positions: Any) -> Any:
        passed = tf.searchsorted(others_before, positions, side="right", out_type=tf.int64)
        return in_graph(source.read)(positions + passed)

    return replace(source, examples=source.examples - len(held_out), read=read)
