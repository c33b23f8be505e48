"""The batches of an epoch after another, whose iterators and graphs are kept where the data allow it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from saman.trainers.data.feed import Feed, Slice
from saman.trainers.keras_compat import tf


class Stream:
    """Iterators over the slices of a process. A new epoch of random-access data costs no new pipeline."""

    def __init__(self, slices: Sequence[Slice]) -> None:
        self._slices = slices
        self._feed: Feed | None = None
        self._step = 0  # full global batches before the next batch, over all epochs
        self._iterators: list[Any] = []
        self._pipeline: Callable[[Any, Any, Any], Any] | None = None  # of slices that change: traced once
        self._rest_of: Feed | None = None  # whose reader and datasets are kept
        self._reader: Any | None = None  # of a single batch
        self._datasets: dict[int, list[Any]] = {}  # batch to begin with -> a dataset per slice

    def regroup(self, slices: Sequence[Slice]) -> None:
        """Begin anew with other slices of the same data."""
        self._slices, self._step, self._iterators, self._datasets = slices, -1, [], {}

    def iterators(self, feed: Feed, batch: int) -> list[Any]:
        """Return iterators that continue with global batch ``batch`` of the feed's epoch."""
        step = feed.epoch * feed.full_steps + batch
        if not self._continues(feed) or step != self._step:
            self._iterators = self._begin(feed, batch)
        self._feed, self._step = feed, step
        return self._iterators

    def rest(self, feed: Feed, batch: int) -> list[Iterator[Any]]:
        """Return what is left of the feed's epoch from global batch ``batch`` on, as ``Feed.batches`` of each slice.

        A new pipeline would cost 30 ms in each epoch. The short last batch alone is read without one; where epochs are
        equal, as those of validation, its datasets are kept.
        """
        if batch >= feed.steps:
            return [iter(()) for _ in self._slices]
        if self._rest_of is None or not _is_same_data(self._rest_of, feed):
            self._rest_of, self._reader, self._datasets = feed, None, {}
        if feed.steps - batch == 1:
            self._reader = self._reader or feed.reader()
            if self._reader is not None:
                return [iter([feed.read_batch(self._reader, part, batch)]) for part in self._slices]
        if not feed.is_equal_each_epoch:
            return [feed.batches(part, batch) for part in self._slices]
        if batch not in self._datasets:
            self._datasets = {batch: [feed.batched(part, batch) for part in self._slices]}
        kept = zip(self._slices, self._datasets[batch], strict=True)
        return [feed.batches(part, batch, dataset) for part, dataset in kept]

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


def _is_same_data(before: Feed, feed: Feed) -> bool:
    """Whether what was made for a feed reads another, too."""
    if before.dataset is not feed.dataset:
        return False
    return before.epoch == feed.epoch or (feed.is_endless and before.map is feed.map)
