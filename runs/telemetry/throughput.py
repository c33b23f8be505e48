"""Throughput of a run from its telemetry."""

from __future__ import annotations

from statistics import median
from typing import Any

from saman.runs.events import Event
from saman.runs.folder import Attempt, RunFolder
from saman.runs.telemetry.window import Window, read_windows


def samples_per_second(window: Window) -> float:
    """Throughput of all ranks over a window, from the first process's measure.

    Every rank has the same share of a batch; of a pipeline every replica, whose first stage counts it.
    """
    others = window.size / window.ranks_here / (window.stages or 1)
    return window.samples * others / window.seconds if window.seconds > 0 else 0.0


def summary(run: RunFolder, attempt: Attempt, events: list[Event]) -> dict[str, Any]:
    """What ``summary.json`` says of how a run went: throughput, steps, final metrics."""
    windows, dropped, repeated = read_windows(run, 0)
    steady = [window for window in windows if not window.compiled]
    epochs = [event for event in events if event.kind == "epoch"]
    last = epochs[-1].facts if epochs else {}
    # The exported model may be of an earlier epoch than the last: the best one.
    exported = next((event.facts for event in reversed(events) if event.kind == "exported"), {})
    return {
        "attempts": attempt.number,
        "samples_per_second": median(map(samples_per_second, steady)) if steady else None,
        "windows": len(steady),
        "telemetry_lines_dropped": dropped,
        "windows_repeated": repeated,
        "step": last.get("step", windows[-1].step if windows else None),
        "epoch": last.get("epoch"),
        "metrics": exported.get("metrics") or last.get("metrics", {}),
    }
