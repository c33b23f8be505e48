"""Wall time of a run: its attempts from start to end, without the time between two attempts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from saman.runs.events import TRANSITIONS, Event, EventKind

_ENDS = frozenset(kind for kind in TRANSITIONS if kind not in (EventKind.CREATED, EventKind.QUEUED)) - {
    EventKind.ATTEMPT_STARTED
}


@dataclass(frozen=True)
class WallTime:
    """The spans of a run's attempts, oldest first, in Unix seconds.

    >>> WallTime(((100.0, 160.0), (500.0, 540.0))).seconds
    100.0
    """

    attempts: tuple[tuple[float, float], ...]

    @property
    def seconds(self) -> float:
        """Seconds of all attempts."""
        return sum(end - start for start, end in self.attempts)

    def until(self, time: float) -> float:
        """Seconds of the attempts up to a moment.

        >>> WallTime(((100.0, 160.0), (500.0, 540.0))).until(510.0)
        70.0
        """
        return sum(max(0.0, min(end, time) - start) for start, end in self.attempts)


def wall_time(events: Iterable[Event], now: float | None = None) -> WallTime | None:
    """Find the spans of a run's attempts in its events.

    An attempt ends with the event that says so; an attempt whose supervisor was killed ends with its last event.

    Args:
        events: Of the run, oldest first.
        now: End of the newest attempt while its end is not recorded yet, in Unix seconds.

    Returns:
        The wall time; ``None`` without a start of an attempt.
    """
    spans: list[tuple[float, float]] = []
    ended = True
    for event in events:
        if event.kind == EventKind.ATTEMPT_STARTED:
            spans.append((event.time, event.time))
            ended = False
        elif spans and not ended:
            spans[-1] = (spans[-1][0], max(spans[-1][1], event.time))
            ended = event.kind in _ENDS
    if spans and not ended and now is not None:
        spans[-1] = (spans[-1][0], max(spans[-1][1], now))
    return WallTime(tuple(spans)) if spans else None
