"""The definitions of throughput, and the measures in the summary of a run.

*Sustained* throughput is Σ samples ÷ Σ seconds over the steady part of a run: every window in which no graph was
traced, less what a reader drops at the start as warm-up. A stall therefore lowers it by the time it took; a median over
windows would hide it. Where the telemetry of all processes is read, a window lasts as long as its slowest rank. Where
the chief's telemetry alone is read (summary, live progress, tracking), its seconds count: synchronous ranks end a step
together.

*End-to-end* throughput is all samples ÷ all wall time of a run's attempts: start, tracing, validation and checkpoints
included. Cost and time to accuracy follow from it, not from sustained throughput.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from saman.runs.events import Event, find_last
from saman.runs.folder import Attempt, RunFolder
from saman.runs.ranks.training_events import EpochEnd, FinalTest, ModelExport
from saman.runs.telemetry.goodput import Goodput, measure_goodput
from saman.runs.telemetry.wall_time import wall_time
from saman.runs.telemetry.window import Window, read_windows


@dataclass(frozen=True)
class Throughput:
    """Samples per second of all ranks: sustained, and its distribution over ``windows`` windows."""

    sustained: float
    median: float
    p5: float
    p95: float
    windows: int

    @property
    def excess_of_median(self) -> float:
        """Median over windows ÷ sustained throughput, less 1: large where a part of the windows stalls.

        >>> round(throughput([1000] * 5, [1, 4, 1, 4, 1]).excess_of_median, 2)
        1.2
        """
        return self.median / self.sustained - 1.0 if self.sustained > 0 else 0.0


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
        median=quantile(rates, 0.5),
        p5=quantile(rates, 0.05),
        p95=quantile(rates, 0.95),
        windows=len(counted),
    )


def end_to_end_rate(samples: float, wall_seconds: float) -> float | None:
    """Compute end-to-end throughput in samples per second; ``None`` without samples or wall time.

    Args:
        samples: Samples of every step that counts, those of tracing steps included.
        wall_seconds: Seconds of all attempts (``WallTime.seconds``).
    """
    return samples / wall_seconds if samples > 0 and wall_seconds > 0 else None


def chief_throughput(windows: Iterable[Window]) -> Throughput | None:
    """Compute the throughput of all ranks from the chief's windows; those in which a graph was traced do not count."""
    steady = [window for window in windows if not window.compiled]
    return throughput([samples_of_all_ranks(window) for window in steady], [window.seconds for window in steady])


def samples_of_all_ranks(window: Window) -> float:
    """Count the samples of all ranks in a telemetry window of the chief.

    Every rank has the same share of a batch. In a pipeline every replica has, and its first stage counts the samples.
    """
    return window.samples * window.size / window.ranks_here / (window.stages or 1)


def quantile(ordered: Sequence[float], share: float) -> float:
    """The quantile of ordered telemetry values, linear between neighbours (Hyndman and Fan 1996, type 7)."""
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


@dataclass(frozen=True)
class TrainingMeasures:
    """Measures of a run up to its newest attempt.

    Attributes:
        attempts: Number of the newest attempt.
        throughput: Of all ranks; ``None`` without steady windows.
        end_to_end_samples_per_second: Of all ranks over the wall time of all attempts; ``None`` without samples.
        lines_dropped: Lines of telemetry that are damaged.
        windows_repeated: Windows that a later attempt repeated; they count once.
        step: The last step; ``None`` before the first window.
        epoch: The last complete epoch.
        metrics: Of the exported model, else of the last epoch; and those of the test examples.
        goodput: Of the run; ``None`` without steady windows.
    """

    attempts: int
    throughput: Throughput | None
    end_to_end_samples_per_second: float | None
    lines_dropped: int
    windows_repeated: int
    step: int | None
    epoch: int | None
    metrics: Mapping[str, float | None]
    goodput: Goodput | None = None


def measure_training(
    run: RunFolder, attempt: Attempt, events: Sequence[Event], now: float | None = None
) -> TrainingMeasures:
    """Measure the throughput in a run's telemetry for its ``summary.json``.

    Args:
        run: The run folder, for its telemetry.
        attempt: The last attempt.
        events: The events of the run, oldest first.
        now: End of the last attempt, in Unix seconds, where its event is not written yet.
    """
    windows, dropped, repeated = read_windows(run, 0)
    wall, samples = wall_time(events, now), sum(map(samples_of_all_ranks, windows))
    last = find_last(EpochEnd.from_event, events)
    # The exported model may be of an earlier epoch than the last: of the best epoch.
    exported = find_last(ModelExport.from_event, events)
    tested = find_last(FinalTest.from_event, events)
    step = windows[-1].step if windows else None
    return TrainingMeasures(
        attempts=attempt.number,
        throughput=chief_throughput(windows),
        end_to_end_samples_per_second=end_to_end_rate(samples, wall.seconds) if wall else None,
        lines_dropped=dropped,
        windows_repeated=repeated,
        step=last.step if last else step,
        epoch=last.epoch if last else None,
        metrics={
            **(tested.metrics if tested else {}),
            **((exported and exported.metrics) or (last.metrics if last else {})),
        },
        goodput=measure_goodput(run, events, now),
    )
