"""Which examples a rank gets at each step: ordered by (seed, epoch), sliced by rank, then mapped and batched.

In a global batch, position p belongs to slice p mod count. Of a slice's examples, every m-th (from the i-th on) form
micro-batch i of m, which therefore is the global micro-batch index + count · i: a single rank with count · m
micro-batches sees exactly the same groups. Global batches divide by count · m; the last may be short.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from saman.configs.errors import UserError
from saman.trainers.keras_compat import tf


@dataclass(frozen=True)
class Slice:
    """The ``index``-th of ``count`` equal parts of each global batch."""

    index: int
    count: int


@dataclass(frozen=True)
class Feed:
    """One dataset as batches. ``examples`` is its length; ``global_batch_size`` divides by the number of slices."""

    dataset: Any
    examples: int
    global_batch_size: int
    seed: int
    epoch: int
    shuffle: bool
    map: Callable[..., Any] | None
    maps_batches: bool
    where: str

    @property
    def steps(self) -> int:
        """Global batches in one pass, the short last one included."""
        return -(-self.examples // self.global_batch_size)

    def batches(self, part: Slice, skip: int = 0) -> Iterator[Any]:
        """Pairs (inputs, labels) of one slice, from global batch ``skip`` on; exactly ``steps - skip`` of them.

        A slice of which a short last batch holds nothing gets a pair of length 0.
        """
        dataset = self.batched(part, skip)
        nothing = tf.nest.map_structure(_nothing, dataset.element_spec)
        iterator = iter(dataset)
        for _ in range(skip, self.steps):
            yield next(iterator, nothing)

    def batched(self, part: Slice, skip: int = 0) -> Any:
        """The slice as a ``tf.data.Dataset`` of batches; raises ``UserError`` where they are no pairs."""
        dataset = self.dataset
        if self.shuffle:
            seed = _number(self.seed, self.epoch)
            dataset = dataset.shuffle(max(1, self.examples), seed=seed, reshuffle_each_iteration=False)
        dataset = dataset.enumerate().skip(skip * self.global_batch_size).shard(part.count, part.index)
        here = self.global_batch_size // part.count
        if self.maps_batches:
            dataset = dataset.batch(here).map(self._mapped, tf.data.AUTOTUNE)
        else:
            dataset = dataset.map(self._mapped, tf.data.AUTOTUNE).batch(here)
        options = tf.data.Options()
        options.deterministic = True
        dataset = dataset.with_options(options).prefetch(2)
        _check_pairs(dataset.element_spec, self.where)
        return dataset

    def _mapped(self, position: Any, example: Any) -> Any:
        if self.map is None:
            return example
        values = example if isinstance(example, tuple) else (example,)
        if "seed" not in inspect.signature(self.map).parameters:
            return self.map(*values)
        start = tf.constant([_number(self.seed, 0), self.epoch], tf.int32)

        def seed_of(one: Any) -> Any:
            return tf.random.experimental.stateless_fold_in(start, tf.cast(one, tf.int32))

        if self.maps_batches:
            seeds = tf.map_fn(seed_of, position, fn_output_signature=tf.TensorSpec([2], tf.int32))
            return self.map(*values, seed=seeds)
        return self.map(*values, seed=seed_of(position))


def count(dataset: Any, where: str) -> tuple[int, bool]:
    """How many examples a dataset holds, and whether it had to be read through to know.

    Raises ``UserError`` for endless and for empty data.
    """
    if not isinstance(dataset, tf.data.Dataset):
        raise UserError(f"{type(dataset).__name__} is not a tf.data.Dataset", where=where, remedy="Splits of datasets")
    known = int(dataset.cardinality().numpy())
    if known == tf.data.INFINITE_CARDINALITY:
        raise UserError("the dataset is endless", where=where, remedy="leave .repeat() out; epochs repeat it")
    read = known == tf.data.UNKNOWN_CARDINALITY
    if read:
        known = int(dataset.reduce(tf.constant(0, tf.int64), lambda total, *_: total + 1).numpy())
    if known == 0:
        raise UserError("the dataset is empty", where=where)
    return known, read


def _number(seed: int, epoch: int) -> int:
    """A non-negative int32 made of both."""
    return int.from_bytes(hashlib.sha256(f"{seed} {epoch}".encode()).digest()[:4], "big") >> 1


def _nothing(spec: Any) -> Any:
    return tf.zeros([0, *(size or 0 for size in spec.shape[1:])], spec.dtype)


def _check_pairs(spec: Any, where: str) -> None:
    if not (isinstance(spec, tuple) and len(spec) == 2):
        raise UserError(
            f"examples are {tf.nest.map_structure(lambda one: tuple(one.shape), spec)}",
            where=where,
            remedy="pairs (input, label) after the map",
        )
    if isinstance(spec[1], (dict, tuple)):
        raise UserError("labels have several parts", where=where, remedy="one tensor per example")
