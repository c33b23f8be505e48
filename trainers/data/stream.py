"""Iterators over full batches that a graph reads by itself, kept from epoch to epoch where the data allow it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from saman.trainers.data.feed import Feed, Slice
from saman.trainers.keras_compat import tf


class Stream:
    """One iterator per slice of a process. A new epoch of random-access data costs no new pipeline."""

    def __init__(self, slices: Sequence[Slice]) -> None:
        self._slices = slices
        self._feed: Feed | None = None
        self._step = 0  # full global batches before the next batch, over all epochs
        self._iterators: list[Any] = []
        self._pipeline: Callable[[Any, Any, Any], Any] | None = None  # of slices that change: traced once

    def regroup(self, slices: Sequence[Slice]) -> None:
        """Begin anew with other slices of the same data."""
        self._slices, self._step, self._iterators = slices, -1, []

    def iterators(self, feed: Feed, batch: int) -> list[Any]:
        """Return iterators that continue with global batch ``batch`` of the feed's epoch."""
        step = feed.epoch * feed.full_steps + batch
        if not self._continues(feed) or step != self._step:
            self._iterators = self._begin(feed, batch)
        self._feed, self._step = feed, step
        return self._iterators

    def advance(self, steps: int) -> None:
        """Note that ``steps`` batches were taken from each iterator."""
        self._step += steps

    def _begin(self, feed: Feed, batch: int) -> list[Any]:
        if not feed.is_endless or all(part.fixed for part in self._slices):
            return [iter(feed.full_batches(part, batch)) for part in self._slices]
        if self._pipeline is None or not self._continues(feed):
            self._pipeline = feed.pipeline()
        step = feed.epoch * feed.full_steps + batch
        numbers = [[tf.constant(value, tf.int64) for value in (part.index, part.count, step)] for part in self._slices]
        return [iter(self._pipeline(*each)) for each in numbers]

    def _continues(self, feed: Feed) -> bool:
        if self._feed is None or self._feed.dataset is not feed.dataset:
            return False
        return self._feed.epoch == feed.epoch or (feed.is_endless and self._feed.map is feed.map)
