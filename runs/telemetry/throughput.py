"""The one definition of throughput, and the summary of a run.

*Sustained* throughput is Σ samples ÷ Σ seconds over the steady part of a run: every window in which no graph was
traced, less what a reader drops at the start as warm-up. A stall therefore lowers it by the time it took; a median over
windows would hide it. Where the telemetry of all processes is read, a window lasts as long as its slowest rank. Where
the chief's telemetry alone is read (summary, live progress, tracking), its seconds count: synchronous ranks end a step
together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from saman.runs.events import Event, EventKind
from saman.runs.folder import Attempt, RunFolder
from saman.runs.telemetry.window import Window, read_windows


@dataclass(frozen=True)
class Throughput:
    """Samples per second of all ranks: sustained, and its distribution over ``windows`` windows."""

    sustained: float
    median: float
    p5: float
    p95: float
    windows: int


def throughput(samples: Sequence[float], seconds: Sequence[float]) -> Throughput | None:
    """Compute the throughput of the windows of a steady part.

    Args:
        samples: Samples of all ranks, per window.
        seconds: Duration per window; windows without a duration do not count.

    Returns:
        The throughput, or ``None`` where no window counts.

    >>> throughput([100, 100], [1.0, 4.0]).sustained
    40.0
    """
    counted = [(count, taken) for count, taken in zip(samples, seconds, strict=True) if taken > 0]
    if not counted:
        return None
    rates = sorted(count / taken for count, taken in counted)
    return Throughput(
        sustained=sum(count for count, _ in counted) / sum(taken for _, taken in counted),
        median=_quantile(rates, 0.5),
        p5=_quantile(rates, 0.05),
        p95=_quantile(rates, 0.95),
        windows=len(counted),
    )


def chief_throughput(windows: Iterable[Window]) -> Throughput | None:
    """Compute the throughput of all ranks from the chief's windows; those in which a graph was traced do not count."""
    steady = [window for window in windows if not window.compiled]
    return throughput([samples_of_all_ranks(window) for window in steady], [window.seconds for window in steady])


def samples_of_all_ranks(window: Window) -> float:
    """Samples of all ranks in a window of the chief.

    Every rank has the same share of a batch. In a pipeline every replica has, and its first stage counts the samples.
    """
    return window.samples * window.size / window.ranks_here / (window.stages or 1)


def _quantile(ordered: Sequence[float], share: float) -> float:
    """The quantile of ordered values, linear between neighbours (Hyndman and Fan 1996, type 7)."""
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def summary(run: RunFolder, attempt: Attempt, events: list[Event]) -> dict[str, Any]:
    """Compute the content of ``summary.json``: throughput, steps, final metrics.

    Args:
        run: The run folder, for its telemetry.
        attempt: The last attempt.
        events: The events of the run, oldest first.

    Returns:
        The content as JSON: throughput in samples per second of all ranks (``null`` without steady windows), the counts
        of dropped and repeated windows, the last step and epoch, and the metrics of the exported model.
    """
    windows, dropped, repeated = read_windows(run, 0)
    measured = chief_throughput(windows)
    epochs = [event for event in events if event.kind == EventKind.EPOCH]
    last = epochs[-1].facts if epochs else {}
    # The exported model may be of an earlier epoch than the last: of the best epoch.
    exported = next((event.facts for event in reversed(events) if event.kind == EventKind.EXPORTED), {})
    return {
        "attempts": attempt.number,
        "samples_per_second": measured and measured.sustained,
        "throughput": measured and asdict(measured),
        "windows": measured.windows if measured else 0,
        "telemetry_lines_dropped": dropped,
        "windows_repeated": repeated,
        "step": last.get("step", windows[-1].step if windows else None),
        "epoch": last.get("epoch"),
        "metrics": exported.get("metrics") or last.get("metrics", {}),
    }
