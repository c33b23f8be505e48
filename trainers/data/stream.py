"""What reads the batches of one epoch after the other, kept from epoch to epoch where the data allow it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from saman.trainers.data.feed import Feed, Slice
from saman.trainers.keras_compat import tf


class Stream:
    """The iterators from which a graph takes full batches, one per slice: one for all epochs of random-access data."""

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
        return self._feed is not None and _is_same_data(self._feed, feed)


class KeptBatches:
    """The batches that are handed to a graph one by one: a short last batch, validation, all where no graph iterates.

    A new pipeline costs 30 ms, so a single batch is read without one, and a pass that is the same in every epoch keeps
    its pipeline.
    """

    def __init__(self, slices: Sequence[Slice]) -> None:
        self._slices = slices
        self._feed: Feed | None = None  # of which the following are
        self._reader: Any | None = None
        self._whole: list[Any] = []  # a dataset per slice: the whole pass

    def regroup(self, slices: Sequence[Slice]) -> None:
        """Go on with other slices of the same data."""
        self._slices, self._whole = slices, []

    def until_end(self, feed: Feed, batch: int) -> list[Iterator[Any]]:
        """Return ``Feed.batches`` of each slice, from global batch ``batch`` to the end of the feed's epoch."""
        if self._feed is None or not _is_same_data(self._feed, feed):
            self._feed, self._reader, self._whole = feed, None, []
        if feed.steps - batch == 1:
            self._reader = self._reader or feed.reader()
            if self._reader is not None:
                return [iter([feed.read_batch(self._reader, part, batch)]) for part in self._slices]
        if batch or not feed.is_equal_each_epoch:
            return [feed.batches(part, batch) for part in self._slices]
        self._whole = self._whole or [feed.batched(part) for part in self._slices]
        return [feed.batches(part, 0, whole) for part, whole in zip(self._slices, self._whole, strict=True)]


def _is_same_data(before: Feed, feed: Feed) -> bool:
    """Whether what was made to read one feed reads the other, too."""
    if before.dataset is not feed.dataset:
        return False
    return before.epoch == feed.epoch or (feed.is_endless and before.map is feed.map)
