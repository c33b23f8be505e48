"""Writes the telemetry of one process: a record for each window of steps, with the same windows on all ranks."""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from saman.runs.files.whole import append_line
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
        self.exchange_seconds: float | None = None
        path.parent.mkdir(parents=True, exist_ok=True)
        self.pause()

    def pause(self) -> None:
        """Start the next window now; time since the last window (validation, a checkpoint) belongs to no step."""
        self._began, self._input_wait, self._samples, self._steps = time.perf_counter(), 0.0, 0, 0
        self._exchange: float | None = 0.0
        self._compiled = False
        self._sums: list[Any] = []

    @property
    def steps(self) -> int:
        """Steps in the window so far."""
        return self._steps

    @property
    def room(self) -> int:
        """Steps that the window still takes."""
        return self._window_steps - self._steps

    def add(
        self,
        steps: int,
        samples: int,
        sums: Any,
        *,
        input_wait_seconds: float,
        exchange_seconds: float | None = None,
        compiled: bool = False,
    ) -> bool:
        """Add steps to the window; return whether the window is full.

        Args:
            steps: Number of steps.
            samples: Examples of this process alone.
            sums: float64[4] measures of the steps; read when the window closes.
            input_wait_seconds: How long the steps waited for their batches.
            exchange_seconds: Duration of the exchange between ranks, if it was measured.
            compiled: Whether a graph was traced; such a step is a window of its own.
        """
        self._steps += steps
        self._sums.append(sums)
        self._samples += samples
        self._input_wait += input_wait_seconds
        if self._exchange is None or exchange_seconds is None:
            self._exchange = None
        else:
            self._exchange += exchange_seconds
        self._compiled = self._compiled or compiled
        return self._compiled or self.room <= 0

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
        exchange = self._exchange
        if exchange is None and self.exchange_seconds is not None:
            exchange = self.exchange_seconds * self._steps
        if self._steps:
            window = Window(
                rank=self._ranks[0],
                ranks_here=len(self._ranks),
                size=self._size,
                step=step,
                steps=self._steps,
                epoch=epoch,
                samples=self._samples,
                seconds=time.perf_counter() - self._began,
                input_wait_seconds=self._input_wait,
                loss=_finite(total[LOSS] / total[COUNT]) if self._chief and total[COUNT] else None,
                learning_rate=rate,
                compiled=self._compiled,
                memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                **{"exchange_seconds": exchange, **measured},
            )
            append_line(self._path, window.to_json())
        self.pause()
        return total


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
