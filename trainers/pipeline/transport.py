"""What neighbouring stages say to each other: lists of arrays under a tag, sent without waiting, received by tag."""

from __future__ import annotations

import queue
import threading
from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol

import numpy as np


class Transport(Protocol):
    """Messages between the stages of one replica. A stage only speaks to its neighbours.

    Messages of one tag arrive in the order they were sent; messages of different tags may be received in any order.
    Since sending never waits, no order of arrival makes two stages wait for each other.
    """

    def send(self, stage: int, tag: int, arrays: Sequence[np.ndarray]) -> None:
        """Send to ``stage`` and return at once; the arrays must not change afterwards."""

    def receive(self, stage: int, tag: int) -> list[np.ndarray]:
        """Wait for the next message of ``tag`` from ``stage``. Raises ``StageLost`` where it will never come."""

    def close(self) -> None:
        """Leave; what was sent may still arrive."""


class StageLost(RuntimeError):  # noqa: N818  (failures.py knows it by name; no OSError, which would blame a file)
    """A neighbouring stage is gone."""


def tag_of(micro_batch: int, backward: bool) -> int:
    """The tag of a micro-batch's activations (even) or gradients (odd)."""
    return 2 * micro_batch + int(backward)


class Mailbox:
    """Arrived messages by sender and tag; a lost sender wakes whoever waits for it."""

    def __init__(self) -> None:
        self._boxes: defaultdict[tuple[int, int], queue.SimpleQueue[list[np.ndarray] | None]] = defaultdict(
            queue.SimpleQueue
        )
        self._lost: dict[int, str] = {}
        self._lock = threading.Lock()

    def put(self, sender: int, tag: int, arrays: list[np.ndarray]) -> None:
        """A message has arrived."""
        self._box(sender, tag).put(arrays)

    def lose(self, sender: int, reason: str) -> None:
        """Nothing more will come from ``sender``."""
        with self._lock:
            self._lost.setdefault(sender, reason)
            for (stage, _), box in self._boxes.items():
                if stage == sender:
                    box.put(None)

    def take(self, sender: int, tag: int) -> list[np.ndarray]:
        """Wait for a message; those that arrived before the loss of their sender are still given."""
        box = self._box(sender, tag)
        with self._lock:
            lost = sender in self._lost
        try:
            arrays = box.get_nowait() if lost else box.get()
        except queue.Empty:
            arrays = None
        if arrays is None:
            box.put(None)  # for the next who asks
            raise StageLost(f"stage {sender} is gone: {self._lost[sender]}")
        return arrays

    def _box(self, sender: int, tag: int) -> queue.SimpleQueue[list[np.ndarray] | None]:
        with self._lock:
            return self._boxes[sender, tag]


class ThreadTransport:
    """Stages that are threads of one process: a message is handed over as it is."""

    def __init__(self, stage: int, boxes: Sequence[Mailbox]) -> None:
        self._stage, self._boxes = stage, boxes

    def send(self, stage: int, tag: int, arrays: Sequence[np.ndarray]) -> None:
        self._boxes[stage].put(self._stage, tag, list(arrays))

    def receive(self, stage: int, tag: int) -> list[np.ndarray]:
        return self._boxes[self._stage].take(stage, tag)

    def close(self) -> None:
        for box in self._boxes:
            box.lose(self._stage, "it has ended")
