"""Writes the telemetry of one process: a record for each window of steps, with the same windows on all ranks."""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from saman.configs.files import append_line
from saman.runs.telemetry.window import Window
from saman.trainers.loop.sums import COUNT, LOSS


class TelemetryWriter:
    """Measures windows of steps. Sums are read only at the end of a window, so that steps need not wait for them.

    Attributes:
        exchange_seconds: Seconds per step of the exchange between ranks, if it was measured before the first step.
    """

    def __init__(self, path: Path, ranks: Sequence[int], size: int, window_steps: int, chief: bool) -> None:
        self._path, self._ranks, self._size, self._chief = path, ranks, size, chief
        self._window_steps = window_steps
        self._traced = False
        self.exchange_seconds: float | None = None
        path.parent.mkdir(parents=True, exist_ok=True)
        self.pause()

    def pause(self) -> None:
        """Start the next window now; time since the last window (validation, a checkpoint) belongs to no step."""
        self._began, self._input_wait, self._samples = time.perf_counter(), 0.0, 0
        self._sums: list[Any] = []

    def step(self, sums: Any, samples: int, input_wait_seconds: float) -> bool:
        """Add a step to the window; return whether the window is full.

        The first step of an attempt, which traces the graph, is a window of its own.

        Args:
            sums: float64[4] measures of the step; read when the window closes.
            samples: Examples of this process alone.
            input_wait_seconds: How long the step waited for its batch.
        """
        self._sums.append(sums)
        self._samples += samples
        self._input_wait += input_wait_seconds
        return not self._traced or len(self._sums) >= self._window_steps

    def close_window(self, step: int, epoch: int, rate: float, **measured: Any) -> np.ndarray:
        """Write the window and start the next.

        Args:
            step: Number of steps taken so far.
            epoch: The epoch's number, counted from 1.
            rate: The learning rate of the last step.
            **measured: Further fields of ``Window``.

        Returns:
            float64[4]: the sums of the window's measures.
        """
        total = np.sum([np.asarray(sums) for sums in self._sums], axis=0) if self._sums else np.zeros(4)
        exchange = None if self.exchange_seconds is None else self.exchange_seconds * len(self._sums)
        if self._sums:
            window = Window(
                rank=self._ranks[0],
                ranks_here=len(self._ranks),
                size=self._size,
                step=step,
                steps=len(self._sums),
                epoch=epoch,
                samples=self._samples,
                seconds=time.perf_counter() - self._began,
                input_wait_seconds=self._input_wait,
                loss=_finite(total[LOSS] / total[COUNT]) if self._chief and total[COUNT] else None,
                learning_rate=rate,
                compiled=not self._traced,
                memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                **{"exchange_seconds": exchange, **measured},
            )
            append_line(self._path, window.to_json())
            self._traced = True
        self.pause()
        return total


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
