"""When checkpoints within an epoch are due: every so many steps, or at the interval that loses least time."""

from __future__ import annotations

import threading
import time
from collections import deque
from statistics import mean

from saman.configs.schemas.training import CheckpointPolicy
from saman.runs.checkpoints.interval import best_interval, checkpoint_cost
from saman.trainers.strategies.base import Strategy, agree

FIRST_STEPS = 4  # until the first automatic checkpoint, which measures the cost; doubled until it is measured
_MEASURED = 5  # newest checkpoints whose mean cost counts
_MOST_STEPS = 10_000_000


class CheckpointSchedule:
    """The steps at which all ranks save a checkpoint. All ranks call it at the same steps and get the same answers."""

    def __init__(self, policy: CheckpointPolicy, strategy: Strategy, mtbf_seconds: float) -> None:
        self._policy, self._strategy, self._mtbf = policy, strategy, mtbf_seconds
        self._lock = threading.Lock()
        self._costs: deque[tuple[float, float]] = deque(maxlen=_MEASURED)  # waited seconds, seconds until on disk
        self._distance = FIRST_STEPS
        self._next = FIRST_STEPS
        self._saved = (0, time.monotonic())

    def begin(self, step: int) -> None:
        """Start to count at the step from which the training goes on."""
        self._next = step + self._distance
        self._saved = (step, time.monotonic())

    def steps_left(self, step: int) -> int | None:
        """Steps until the next checkpoint within an epoch; ``None`` if none is planned."""
        if self._policy.every == "auto":
            return max(1, self._next - step)
        every = self._policy.every_steps
        return None if every is None else every - step % every

    def is_due(self, step: int) -> bool:
        """Whether a checkpoint is due after ``step`` steps."""
        if self._policy.every == "auto":
            return step >= self._next
        every = self._policy.every_steps
        return every is not None and step % every == 0

    def note_saved(self, step: int) -> None:
        """After every checkpoint, whatever it was for: agree on the step of the next; all ranks call it together."""
        if self._policy.every != "auto":
            return
        before, then = self._saved
        self._saved = (step, time.monotonic())
        seconds_per_step = (self._saved[1] - then) / max(1, step - before)
        self._distance = int(agree(self._strategy, self._wanted_steps(seconds_per_step)))
        self._next = step + self._distance

    def measure(self, waited_seconds: float, write_seconds: float) -> None:
        """Note the cost of a checkpoint, on the chief; called by the thread that wrote it."""
        with self._lock:
            self._costs.append((waited_seconds, write_seconds))

    def _wanted_steps(self, seconds_per_step: float) -> float:
        with self._lock:
            costs = list(self._costs)
        if not costs or seconds_per_step <= 0:
            return min(_MOST_STEPS, 2 * self._distance)
        waited, write = (mean(values) for values in zip(*costs, strict=True))
        seconds = best_interval(checkpoint_cost(waited, write), self._mtbf, write)
        return max(1, min(_MOST_STEPS, round(seconds / seconds_per_step)))
