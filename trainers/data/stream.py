"""Iterators over full batches that a graph reads by itself, kept from epoch to epoch where the data allow it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from saman.trainers.data.feed import Feed, Slice


class Stream:
    """One iterator per slice of a process. A new epoch of random-access data costs no new pipeline."""

    def __init__(self, slices: Sequence[Slice]) -> None:
        self._slices = slices
        self._feed: Feed | None = None
        self._step = 0  # full global batches before the next batch, over all epochs
        self._iterators: list[Any] = []

    def iterators(self, feed: Feed, batch: int) -> list[Any]:
        """Return iterators that continue with global batch ``batch`` of the feed's epoch."""
        step = feed.epoch * feed.full_steps + batch
        if not self._continues(feed) or step != self._step:
            self._iterators = [iter(feed.full_batches(part, batch)) for part in self._slices]
        self._feed, self._step = feed, step
        return self._iterators

    def advance(self, steps: int) -> None:
        """Note that ``steps`` batches were taken from each iterator."""
        self._step += steps

    def _continues(self, feed: Feed) -> bool:
        if self._feed is None or self._feed.dataset is not feed.dataset:
            return False
        return self._feed.epoch == feed.epoch or (feed.is_endless and self._feed.map is feed.map)
