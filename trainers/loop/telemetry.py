"""Telemetry of one process: a record for each window of steps, cut alike on all ranks."""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from saman.configs.files import append_line
from saman.runs.telemetry.window import Window
from saman.trainers.loop.step import COUNT, LOSS


class TelemetryWriter:
    """Measures windows. The loop says when a step begins and ends; sums are read at the end of a window only."""

    def __init__(self, path: Path, ranks: Sequence[int], size: int, window_steps: int, chief: bool) -> None:
        self._path, self._ranks, self._size, self._chief = path, ranks, size, chief
        self._window_steps = window_steps
        self._traced = False
        self.exchange_seconds: float | None = None  # per step, where it was measured
        path.parent.mkdir(parents=True, exist_ok=True)
        self._begin()

    def _begin(self) -> None:
        self._started, self._waited, self._samples = time.perf_counter(), 0.0, 0
        self._sums: list[Any] = []

    def step(self, sums: Any, samples: int, waited_seconds: float) -> bool:
        """Note a step; ``samples`` are this process's own. Returns whether the window is full.

        The first step of an attempt, in which the graph is traced, is a window of its own.
        """
        self._sums.append(sums)
        self._samples += samples
        self._waited += waited_seconds
        return not self._traced or len(self._sums) >= self._window_steps

    def close_window(self, step: int, epoch: int, rate: float, **measured: Any) -> np.ndarray:
        """Write the window that ends with ``step``, the number of steps done; returns its sums over global batches.

        ``measured`` are further fields of ``Window``.
        """
        total = np.sum([np.asarray(one) for one in self._sums], axis=0) if self._sums else np.zeros(4)
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
                seconds=time.perf_counter() - self._started,
                input_wait_seconds=self._waited,
                loss=_finite(total[LOSS] / total[COUNT]) if self._chief and total[COUNT] else None,
                learning_rate=rate,
                compiled=not self._traced,
                memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                **{"exchange_seconds": exchange, **measured},
            )
            append_line(self._path, window.to_json())
            self._traced = True
        self._begin()
        return total

    def pause(self) -> None:
        """Begin the next window now: what happened since the last one (validation, a checkpoint) is no step."""
        self._begin()


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
