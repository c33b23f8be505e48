"""One line of telemetry: measurements of a process over a window of optimiser steps."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from math import inf
from typing import Any

from saman.runs.events import EventKind
from saman.runs.files.whole import read_lines
from saman.runs.folder import Attempt, RunFolder

SCHEMA = 1


@dataclass(frozen=True)
class Window:
    """The measurements of a process over a window of optimiser steps: a line of ``telemetry/<process>.jsonl``.

    ``step`` is the last step of the window (the first step of a run is 1), ``steps`` their number. ``samples`` are
    the examples of the ranks in this process. ``seconds`` is wall time; it includes ``input_wait_seconds`` and
    ``exchange_seconds`` (exposed communication; ``None`` if it was not measured). ``compiled`` marks a window in which
    a graph was traced. ``memory_bytes`` is the peak memory of the process so far, ``memory_start_bytes`` its memory
    before the model was built. ``loss`` is the mean over the global batches of the window; only the chief writes it. A
    process of a pipeline holds ``stage`` of ``stages``; stage 0 counts the samples of its replica. Its
    ``pass_seconds`` are the wall seconds of both passes without messages; ``pass_cpu_seconds`` are the CPU seconds of
    all threads in them, which unlike wall time do not grow when ranks share a core. ``exchange_cpu_seconds`` and
    ``update_cpu_seconds`` are those of the exchange and of the optimiser's update.

    Input wait and exchange come from time stamps of every step (``trainers.loop.step_times``); the rest of ``seconds``
    is own work. ``own_deviation_seconds`` is its standard deviation over the steps of the window. ``cpu_seconds`` are
    those of all threads of the process (``getrusage``).
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
    pass_seconds: float | None = None
    pass_cpu_seconds: float | None = None
    exchange_cpu_seconds: float | None = None
    update_cpu_seconds: float | None = None
    own_deviation_seconds: float | None = None
    cpu_seconds: float | None = None
    time: float = field(default_factory=time.time)

    def to_json(self) -> dict[str, Any]:
        """Return the line of telemetry, without values that were not measured."""
        measured = {item.name: getattr(self, item.name) for item in fields(self)}  # asdict would copy each value
        return {"schema": SCHEMA, **{key: value for key, value in measured.items() if value is not None}}

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Window | None:
        """Return the window of a line; ``None`` if the line has another schema version or lacks a measure."""
        if line.get("schema") != SCHEMA:
            return None
        known = {item.name for item in fields(cls)}
        try:
            return cls(**{key: value for key, value in line.items() if key in known})
        except TypeError:
            return None


def last_steps(begins: Mapping[int, float]) -> dict[int, float]:
    """State which steps of each attempt count: the one rule for repeated steps.

    An attempt resumes from a checkpoint and repeats the steps that its predecessors took after it. The newest attempt
    that takes a step counts. A window therefore counts if no later attempt begins before the window's last step.

    Args:
        begins: The last step before the first window of each attempt, by its number. Attempts without windows are left
            out: they repeat nothing.

    Returns:
        The last step that counts of each attempt; infinite for the newest.

    >>> last_steps({1: 0, 2: 20, 3: 10})
    {3: inf, 2: 10, 1: 10}
    """
    found: dict[int, float] = {}
    until = inf
    for attempt in sorted(begins, reverse=True):
        found[attempt] = until
        until = min(until, begins[attempt])
    return found


def without_repeats(attempts: Sequence[Sequence[Window]]) -> tuple[list[Window], int]:
    """Join the windows of a process over its attempts, oldest first; also count the windows that were repeated."""
    begins = {number: min(map(_begin, windows)) for number, windows in enumerate(attempts) if windows}
    last = last_steps(begins)
    kept = [window for number, windows in enumerate(attempts) for window in windows if window.step <= last[number]]
    return kept, sum(map(len, attempts)) - len(kept)


def _forward_parts(windows: Sequence[Window]) -> list[list[Window]]:
    """Divide the windows of an attempt where it went back to a checkpoint, as if another attempt had begun there."""
    parts: list[list[Window]] = [[]]
    for window in windows:
        if parts[-1] and _begin(window) < parts[-1][-1].step:
            parts.append([])
        parts[-1].append(window)
    return parts


def _begin(window: Window) -> int:
    return window.step - window.steps


def _lines_of(attempt: Attempt, rank: int, moves: bool) -> tuple[list[dict[str, Any]], int]:
    """The lines of a rank, and the number of torn lines: from its own file, and from those of nodes.

    A rank is a process on one node, unless it ``moves``: in each world of an elastic run it may be another process.
    """
    lines, torn = read_lines(attempt.telemetry(rank))
    for node in attempt.telemetry_nodes():
        more, lost = read_lines(attempt.node_telemetry(node), f'"rank":{rank},'.encode())
        lines, torn = [*lines, *more], torn + lost
        if more and not moves:
            break
    return lines, torn


def read_windows(run: RunFolder, rank: int) -> tuple[list[Window], int, int]:
    """Read the telemetry of the process of ``rank`` over all attempts, in the order of steps.

    Returns:
        The windows, the number of torn or foreign lines, and the number of windows that a later attempt repeated.
    """
    attempts = read_attempt_windows(run, rank)
    kept, repeated = without_repeats([part for _, windows, _ in attempts for part in _forward_parts(windows)])
    return kept, sum(dropped for *_, dropped in attempts), repeated


def read_attempt_windows(run: RunFolder, rank: int) -> list[tuple[int, list[Window], int]]:
    """Read the telemetry of the process of ``rank``, repeated windows included.

    Returns:
        For each attempt its number, its windows, and the number of torn or foreign lines.
    """
    found = []
    elastic = {event.attempt for event in run.events() if event.kind == EventKind.WORLD}
    for attempt in run.attempts():
        moves = attempt.number in elastic
        lines, torn = _lines_of(attempt, rank, moves)
        windows = [window for line in lines if (window := Window.from_json(line)) is not None]
        if moves:
            windows.sort(key=lambda window: window.time)
        dropped = torn + len(lines) - len(windows)
        found.append((attempt.number, [window for window in windows if window.rank == rank], dropped))
    return found
