"""Writes checkpoints beside the training: the loop waits for a snapshot of the state, a thread does the rest.

    loop     ── steps ──┬ snapshot ┬── steps ──────────────────────┬ waits if the last one is not on disk ┬ snapshot …
    thread              └──────────┴─ write + hash ─ fsync ─ rename ┘ (chief: all parts there ─ manifest ─ rename)

At most one checkpoint is pending: the next one waits for it, on all ranks alike and without any agreement, so a killed
run repeats at most two intervals. A stop or the end of the training waits until the checkpoint is on disk.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from saman.runs.checkpoints.store import Checkpoint, TrainingPosition, discard, has_parts, publish, write_part
from saman.runs.records.training_facts import TrainingFacts

NICENESS = (
    10  # of the thread, above that of the process: computing ranks go first, and it still gets a tenth of a busy core
)
_LOOK_SECONDS = (0.01, 0.5)  # between looks for the parts of other ranks: at first, at most

Snapshot = Callable[[], dict[str, np.ndarray]]


@dataclass(frozen=True)
class SavedCheckpoint:
    """A checkpoint that became visible.

    Attributes:
        checkpoint: The checkpoint.
        seconds: From its snapshot until it was visible.
        waited_seconds: How long the training waited, for the snapshot and for the checkpoint before.
    """

    checkpoint: Checkpoint
    seconds: float
    waited_seconds: float


@dataclass(frozen=True, kw_only=True)
class CheckpointPlan:
    """What a process does for each checkpoint.

    Attributes:
        folder: The folder of checkpoints.
        facts: What must be equal when training resumes.
        keep: Number of newest checkpoints to keep.
        part: The part that this process writes; ``None`` for none.
        parts: The number of parts of a checkpoint.
        divided: The shape of each array that is written in pieces.
        publishes: Whether this process makes checkpoints visible, and removes old ones.
        record: Called by the thread, in the process that publishes, for each checkpoint.
    """

    folder: Path
    facts: TrainingFacts
    keep: int
    part: int | None
    parts: int
    divided: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    publishes: bool
    record: Callable[[SavedCheckpoint], None]


class CheckpointWriter:
    """Writes this process's part of each checkpoint, one at a time."""

    def __init__(self, plan: CheckpointPlan) -> None:
        self._plan = plan
        self._pending: _PendingWrite | None = None
        self.newest_step: int | None = None  # of the checkpoint that was begun last

    def begin(self, position: TrainingPosition, snapshot: Snapshot, *, last: bool = False) -> None:
        """Begin a checkpoint, once the one before is on disk.

        Args:
            position: The position of the training; names the checkpoint.
            snapshot: Returns this process's part of the state, in arrays that later steps do not change.
            last: Whether the training ends here and waits for this checkpoint: no other thread goes first then.

        Raises:
            OSError: The checkpoint before could not be written.
        """
        began = time.perf_counter()
        self.finish()
        arrays = {} if self._plan.part is None else snapshot()
        if self._plan.part is not None or self._plan.publishes:
            waited = time.perf_counter() - began
            self._pending = _PendingWrite(self._plan, position, arrays, waited, 0 if last else NICENESS)
            self._pending.start()
        self.newest_step = position.step

    def raise_failure(self) -> None:
        """Raise the error of a checkpoint that could not be written; costs nothing while there is none."""
        if self._pending is not None and self._pending.error is not None:
            self.finish()

    def finish(self) -> None:
        """Wait until the pending checkpoint, if any, is on disk. Raises its error."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.join()
            if pending.error is not None:
                raise pending.error

    def abandon(self) -> None:
        """Give up the pending checkpoint, if any: a process that should write a part of it is gone."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.abandoned.set()
            pending.join()


class _PendingWrite(threading.Thread):
    """Writes one checkpoint; ``error`` is what went wrong."""

    def __init__(
        self,
        plan: CheckpointPlan,
        position: TrainingPosition,
        arrays: dict[str, np.ndarray],
        waited_seconds: float,
        niceness: int,
    ) -> None:
        super().__init__(name=f"checkpoint {position.step}", daemon=True)
        self.error: BaseException | None = None
        self.abandoned = threading.Event()
        self._plan, self._position, self._arrays = plan, position, arrays
        self._waited, self._niceness = waited_seconds, niceness

    def run(self) -> None:
        began = time.perf_counter()
        _compute_after_others(self._niceness)
        try:
            if self._plan.part is not None:
                write_part(self._plan.folder, self._position.step, self._plan.part, self._arrays)
            if self._plan.publishes and self._await_parts():
                self._publish(began)
        except BaseException as error:  # the training raises it, in its own thread
            self.error = error

    def _await_parts(self) -> bool:
        """Wait for the parts of other processes; return ``False`` if the checkpoint was abandoned.

        Unless the run is elastic, the end of a process ends the run, and this thread with it.
        """
        pause, longest = _LOOK_SECONDS
        while not has_parts(self._plan.folder, self._position.step, self._plan.parts):
            if self.abandoned.wait(pause):
                return False
            pause = min(1.5 * pause, longest)
        return True

    def _publish(self, began: float) -> None:
        plan, position = self._plan, self._position
        checkpoint = publish(plan.folder, position, plan.parts, plan.facts, plan.divided)
        discard(plan.folder, plan.keep, position.best_step)
        plan.record(SavedCheckpoint(checkpoint, time.perf_counter() - began, self._waited))


def _compute_after_others(niceness: int) -> None:
    """Lower the priority of this thread alone, which Linux can."""
    if niceness and sys.platform == "linux":
        with contextlib.suppress(OSError):
            thread = threading.get_native_id()
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + niceness)


def finish_pending_writes(seconds: float) -> None:
    """After a failure elsewhere, wait at most ``seconds`` for a checkpoint that this process writes."""
    until = time.monotonic() + seconds
    for thread in threading.enumerate():
        if isinstance(thread, _PendingWrite):
            thread.join(max(0.0, until - time.monotonic()))
