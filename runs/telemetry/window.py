"""One line of telemetry: measurements of a process over a window of optimiser steps."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from saman.configs.files import read_lines
from saman.runs.folder import RunFolder

SCHEMA = 1


@dataclass(frozen=True)
class Window:
    """What one process measured over a window of optimiser steps: one line of ``telemetry/<process>.jsonl``.

    ``step`` is the last step of the window (1 is the first of the run) and ``steps`` how many it holds. ``samples``
    are the examples of the ranks in this process. ``seconds`` is wall time and includes ``input_wait_seconds`` and
    ``exchange_seconds`` (communication that is not hidden; ``None`` where it was not measured). ``compiled`` marks a
    window in which a graph was traced. ``memory_bytes`` is the most that the process has held so far,
    ``memory_start_bytes`` what it held before its model was built. ``loss`` is the mean over the window's global
    batches, from the chief alone. ``stage`` of ``stages`` is what a process of a pipeline holds; the first counts its
    replica's samples.
    """

    rank: int
    ranks_here: int
    size: int
    step: int
    steps: int
    epoch: int
    samples: int
    seconds: float
    input_wait_seconds: float
    exchange_seconds: float | None = None
    loss: float | None = None
    learning_rate: float | None = None
    compiled: bool = False
    memory_bytes: int | None = None
    memory_start_bytes: int | None = None
    stage: int | None = None
    stages: int | None = None
    transfer_seconds: float | None = None
    bubble_seconds: float | None = None
    time: float = field(default_factory=time.time)

    def to_json(self) -> dict[str, Any]:
        """One line of telemetry; what was not measured is left out."""
        return {"schema": SCHEMA, **{key: value for key, value in asdict(self).items() if value is not None}}

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Window | None:
        """The window of a line; ``None`` where the line is of another schema or lacks a measure."""
        if line.get("schema") != SCHEMA:
            return None
        known = {item.name for item in fields(cls)}
        try:
            return cls(**{key: value for key, value in line.items() if key in known})
        except TypeError:
            return None


def without_repeats(windows: Iterable[Window]) -> tuple[list[Window], int]:
    """Windows in the order of steps, where a resumed attempt's replace those it repeats; and how many were replaced."""
    kept: list[Window] = []
    repeated = 0
    for window in windows:
        while kept and kept[-1].step > window.step - window.steps:
            kept.pop()
            repeated += 1
        kept.append(window)
    return kept, repeated


def read_windows(run: RunFolder, rank: int) -> tuple[list[Window], int, int]:
    """Read the telemetry of the process of ``rank`` over all attempts, in the order of steps.

    Returns:
        The windows, the number of torn or foreign lines, and the number of windows that a later attempt repeated.
    """
    found: list[Window] = []
    dropped = 0
    for attempt in run.attempts():
        lines, torn = read_lines(attempt.telemetry(rank))
        windows = [window for line in lines if (window := Window.from_json(line)) is not None]
        dropped += torn + len(lines) - len(windows)
        found += windows
    kept, repeated = without_repeats(found)
    return kept, dropped, repeated
