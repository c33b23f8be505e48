"""Messages between neighbouring stages: lists of arrays under a tag, sent without waiting and received by tag."""

from __future__ import annotations

import queue
import threading
from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol

import numpy as np


class Transport(Protocol):
    """Carries messages between the stages of a replica. A stage exchanges messages with its neighbours only.

    Messages of the same tag arrive in order; messages of different tags may be received in any order.
    Since sending never waits, no order of arrival makes two stages wait for each other.
    """

    def send(self, stage: int, tag: int, arrays: Sequence[np.ndarray]) -> None:
        """Send a message and return at once.

        Args:
            stage: The receiver.
            tag: The message's tag.
            arrays: The content; the arrays must not change afterwards.
        """

    def receive(self, stage: int, tag: int) -> list[np.ndarray]:
        """Wait for the next message of ``tag`` from ``stage``.

        Raises:
            StageLost: The stage has ended, so that no message will come.
        """

    def close(self) -> None:
        """End the connection; messages sent before may still arrive."""


class StageLost(RuntimeError):  # noqa: N818  (failures.py knows the name; an OSError would be reported as a file's)
    """A neighbouring stage has ended."""


def tag_of(micro_batch: int, backward: bool) -> int:
    """Return the tag of a micro-batch's activations (even) or gradients (odd)."""
    return 2 * micro_batch + int(backward)


class Mailbox:
    """Arrived messages by sender and tag; losing a sender wakes the threads that wait for it."""

    def __init__(self) -> None:
        self._boxes: defaultdict[tuple[int, int], queue.SimpleQueue[list[np.ndarray] | None]] = defaultdict(
            queue.SimpleQueue
        )
        self._lost: dict[int, str] = {}
        self._lock = threading.Lock()

    def put(self, sender: int, tag: int, arrays: list[np.ndarray]) -> None:
        """Add a message that has arrived.

        Args:
            sender: The stage that sent it.
            tag: The message's tag.
            arrays: The content.
        """
        self._box(sender, tag).put(arrays)

    def lose(self, sender: int, reason: str) -> None:
        """Note that ``sender`` has ended; messages that arrived before can still be taken."""
        with self._lock:
            self._lost.setdefault(sender, reason)
            for (stage, _), box in self._boxes.items():
                if stage == sender:
                    box.put(None)

    def take(self, sender: int, tag: int) -> list[np.ndarray]:
        """Wait for the next message of ``tag`` from ``sender``.

        Raises:
            StageLost: The sender has ended and all its messages were taken.
        """
        box = self._box(sender, tag)
        with self._lock:
            lost = sender in self._lost
        try:
            arrays = box.get_nowait() if lost else box.get()
        except queue.Empty:
            arrays = None
        if arrays is None:
            box.put(None)  # for the next caller
            raise StageLost(f"stage {sender} has ended: {self._lost[sender]}")
        return arrays

    def _box(self, sender: int, tag: int) -> queue.SimpleQueue[list[np.ndarray] | None]:
        with self._lock:
            return self._boxes[sender, tag]


class ThreadTransport:
    """Connects stages that are threads of the same process: arrays are passed by reference."""

    def __init__(self, stage: int, boxes: Sequence[Mailbox]) -> None:
        self._stage, self._boxes = stage, boxes

    def send(self, stage: int, tag: int, arrays: Sequence[np.ndarray]) -> None:
        """Put a message into the mailbox of a stage."""
        self._boxes[stage].put(self._stage, tag, list(arrays))

    def receive(self, stage: int, tag: int) -> list[np.ndarray]:
        """Wait for a message; raises ``StageLost`` if its stage has ended."""
        return self._boxes[self._stage].take(stage, tag)

    def close(self) -> None:
        """Tell every other stage that this stage has ended."""
        for box in self._boxes:
            box.lose(self._stage, "it closed its transport")
