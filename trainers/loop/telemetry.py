"""Writes the telemetry of one process: a record for each window of steps, with the same windows on all ranks.

Input wait, own work and exchange come from time stamps of every step; nothing is measured once and copied.
"""

from __future__ import annotations

import resource
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from saman.runs.files.whole import append_line
from saman.runs.telemetry.window import Window
from saman.trainers.loop.step_times import StepTimes, StepTotals, join, split_steps
from saman.trainers.program.sums import COUNT, LOSS, METRICS

NEWEST_CALLS = 20  # that the pace is the mean over: calls of several steps take about a quarter of a second


@dataclass(frozen=True)
class _Span:
    """The steps of a window, from ``begin`` to before ``end`` since the last pause; ``time`` is its Unix end."""

    begin: int
    end: int
    seconds: float
    time: float


class TelemetryWriter:
    """Measures windows of steps. Sums are read only at the end of a window, so that steps need not wait for them."""

    def __init__(
        self, path: Path, ranks: Sequence[int], size: int, window_steps: int, chief: bool, width: int = METRICS
    ) -> None:
        """Open the file; ``width`` is that of a vector of measures."""
        self._path, self._ranks, self._size, self._chief = path, ranks, size, chief
        self._window_steps, self._width = window_steps, width
        self._newest: deque[tuple[int, float]] = deque(maxlen=NEWEST_CALLS)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.pause()

    def pause(self) -> None:
        """Start the next window now; time since the last window (validation, a checkpoint) belongs to no step."""
        self._began, self._cpu_began, self._since = time.perf_counter(), time.process_time(), time.time()
        self._input_wait, self._samples, self._steps = 0.0, 0, 0
        self._compiled = False
        self._sums: list[Any] = []
        self._received: list[np.ndarray] = []
        self._unread: list[tuple[Any | None, float]] = []
        self._times: list[StepTimes] | None = []

    def regroup(self, ranks: Sequence[int], size: int, chief: bool) -> None:
        """Go on in another world: with other ranks, their number, and whether rank 0 is here. Starts a window."""
        self._ranks, self._size, self._chief = ranks, size, chief
        self.pause()

    def sums(self) -> np.ndarray:
        """Return float64[width]: the sums of the measures in the window so far."""
        rows = [np.reshape(np.asarray(sums, float), (-1, self._width)) for sums in self._sums]
        return np.asarray(np.concatenate([np.zeros((0, self._width)), *rows]).sum(axis=0))

    @property
    def steps(self) -> int:
        """Steps in the window so far."""
        return self._steps

    def fit(self, steps: int) -> int:
        """Return the largest number of steps, at most ``steps``, that ends at the end of a window; else ``steps``."""
        beyond = steps - (self._window_steps - self._steps)
        return steps - beyond % self._window_steps if beyond >= 0 else steps

    def add(
        self,
        steps: int,
        samples: int,
        totals: StepTotals,
        *,
        input_wait_seconds: float = 0.0,
        compiled: bool = False,
    ) -> bool:
        """Add steps; return whether the window is full, or several windows are.

        Args:
            steps: Number of steps.
            samples: Examples of this process alone.
            totals: Of the steps; read when the window closes, or by ``pace``.
            input_wait_seconds: How long the steps waited for their batches outside of the graph.
            compiled: Whether a graph was traced; such a step is a window of its own.
        """
        self._steps += steps
        self._sums.append(totals.measures)
        self._samples += samples
        self._input_wait += input_wait_seconds
        self._unread.append((totals.stamps, input_wait_seconds))
        self._compiled = self._compiled or compiled
        return self._compiled or self._steps >= self._window_steps

    def pace(self) -> float | None:
        """Read the steps so far; return the newest seconds per step before this process could exchange.

        Returns:
            The mean over the newest calls of a graph; ``None`` before the first step that traced nothing.
        """
        self._read_steps()
        steps = sum(count for count, _ in self._newest)
        return sum(busy for _, busy in self._newest) / steps if steps else None

    def _read_steps(self) -> None:
        """Split the steps that were added since the last reading into their parts."""
        for stamps, waited in self._unread:
            if stamps is None or self._times is None:
                self._times = None
                continue
            rows = np.asarray(stamps)
            times = split_steps(rows, self._since, waited)
            self._since = float(rows[-1, 2])
            self._times.append(times)
            self._received.append(rows[:, 2])
            if not self._compiled:
                self._newest.append((len(rows), float(times.busy.sum())))
        self._unread = []

    def close_window(self, step: int, epoch: int, rate: Callable[[int], float], **measured: Any) -> np.ndarray:
        """Write the steps that were added, in windows, and start the next.

        Args:
            step: Number of steps taken so far.
            epoch: The epoch's number, counted from 1.
            rate: Returns the learning rate of a step, counted from 0.
            **measured: Further fields of ``Window``.

        Returns:
            float64[width]: the sums of the measures.
        """
        sums = [np.reshape(np.asarray(rows, float), (-1, self._width)) for rows in self._sums]
        measures: np.ndarray = np.concatenate([np.zeros((0, self._width)), *sums])
        self._read_steps()
        if self._steps:
            seconds, cpu = time.perf_counter() - self._began, time.process_time() - self._cpu_began
            for span in self._spans(seconds):
                total, last = measures[span.begin : span.end].sum(axis=0), step - self._steps + span.end
                fields = {**self._parts(span), "cpu_seconds": cpu * span.seconds / seconds, **measured}
                window = self._window(span, total, step=last, epoch=epoch, learning_rate=rate(last - 1), **fields)
                append_line(self._path, window.to_json())
            self._note_stage(window)
        self.pause()
        return np.asarray(measures.sum(axis=0))

    def _window(self, span: _Span, total: np.ndarray, **fields: Any) -> Window:
        """Return the window of a span with the sums ``total`` of its measures."""
        steps = span.end - span.begin
        return Window(
            rank=self._ranks[0],
            ranks_here=len(self._ranks),
            size=self._size,
            steps=steps,
            samples=self._samples * steps // self._steps,
            loss=_finite(total[LOSS] / total[COUNT]) if self._chief and total[COUNT] else None,
            compiled=self._compiled,
            memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            time=span.time,
            **fields,
        )

    def _spans(self, seconds: float) -> list[_Span]:
        """Divide the steps since the window began, which took ``seconds``, into windows by their time stamps."""
        whole, now = [_Span(0, self._steps, seconds, time.time())], time.time()
        if self._steps <= self._window_steps or self._times is None:
            return whole
        ends = [*range(self._window_steps, self._steps, self._window_steps), self._steps]
        received = np.concatenate(self._received)
        times = [now - seconds, *(float(received[end - 1]) for end in ends[:-1]), now]
        spans = [
            _Span(begin, end, since_end - since_begin, since_end)
            for begin, end, since_begin, since_end in zip([0, *ends], ends, times, times[1:], strict=False)
        ]
        return spans if all(span.seconds > 0 for span in spans) else whole  # the clock was set while the steps ran

    def _parts(self, span: _Span) -> dict[str, float | None]:
        """The fields of a window that say what its steps spent their time on."""
        seconds = span.seconds
        if self._times is None:
            return {"seconds": seconds, "input_wait_seconds": min(self._input_wait, seconds)}
        times = join(self._times).cut(span.begin, span.end)
        waited, exchange = float(times.input_wait.sum()), float(times.exchange.sum())
        alone = self._size == len(self._ranks) == 1
        possible = waited + exchange <= seconds  # not if the clock was set forward while a step ran
        return {
            "seconds": seconds,
            "input_wait_seconds": min(waited, seconds),
            "exchange_seconds": exchange if possible and not alone else None,
            "own_deviation_seconds": float(times.own.std(ddof=1)) if possible and len(times.own) > 1 else None,
        }

    def _note_stage(self, window: Window) -> None:
        """Take the pace of a stage from its window: its steps have no time stamps, its messages are timed."""
        if self._times is None and window.exchange_seconds is not None and not window.compiled:
            waited = window.exchange_seconds + (window.bubble_seconds or 0.0) + (window.transfer_seconds or 0.0)
            self._newest.append((window.steps, max(0.0, window.seconds - waited)))


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
