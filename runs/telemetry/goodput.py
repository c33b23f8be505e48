"""Goodput: kept steps × undisturbed step time ÷ wall time, and where the rest of the wall time went.

The *undisturbed step time* is the median over the chief's windows at full size in which no graph was traced. *Wall
time* runs from the first attempt to the end, with the time between attempts that begin by themselves; the time in which
a failed or cancelled run waits for its user does not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from saman.runs.elastic.world_events import WorldFormed
from saman.runs.events import Event, EventKind
from saman.runs.folder import RunFolder
from saman.runs.ranks.training_events import CheckpointSave
from saman.runs.records.schema import integer, mapping, number
from saman.runs.telemetry.wall_time import wall_time
from saman.runs.telemetry.window import Window, read_attempt_windows


@dataclass(frozen=True)
class Goodput:
    """The share of wall time that moved a run forward, and the seconds that did not.

    Attributes:
        share: Kept steps × ``step_seconds`` ÷ ``wall_seconds``.
        kept_steps: Steps of the run so far; repeated steps count once.
        step_seconds: The undisturbed step time.
        wall_seconds: See the module.
        failures: Number of attempts that failed.
        start_seconds: The start of the first attempt, up to its first step, with tracing.
        lost_seconds: To failures: steps that were repeated, and the time until a failure ended its attempt, or until
            an elastic run took its next step without the lost ranks.
        restart_seconds: From the start of each further attempt to its first step, with tracing; in an elastic run,
            from the moment a rank was ready to join to the first step with it.
        checkpoint_seconds: In which the training waited for checkpoints.
        waiting_seconds: Between attempts: pauses before restarts, the queue.
        other_seconds: The rest: validation, export, steps slower than the median.
    """

    share: float
    kept_steps: int
    step_seconds: float
    wall_seconds: float
    failures: int = 0
    start_seconds: float = 0.0
    lost_seconds: float = 0.0
    restart_seconds: float = 0.0
    checkpoint_seconds: float = 0.0
    waiting_seconds: float = 0.0
    other_seconds: float = 0.0

    @property
    def words(self) -> str:
        """Goodput for people, with the losses to failures, restarts, checkpoints and waiting above 0.5 %."""
        parts = {
            "failures": self.lost_seconds,
            "restarts": self.restart_seconds,
            "checkpoints": self.checkpoint_seconds,
            "waiting": self.waiting_seconds,
        }
        shares = {name: seconds / self.wall_seconds for name, seconds in parts.items()}
        lost = ", ".join(f"{name} {share:.0%}" for name, share in shares.items() if share >= 0.005)
        return f"goodput {self.share:.1%}" + (f" (lost: {lost})" if lost else "")

    def to_json(self) -> dict[str, Any]:
        """Plain values, rounded to milliseconds."""
        return {name: round(value, 6) if name in ("share", "step_seconds") else round(value, 3)
                for name, value in asdict(self).items()}  # fmt: skip

    @classmethod
    def from_json(cls, value: object) -> Goodput | None:
        """Read what ``to_json`` wrote; ``None`` for other values."""
        facts = mapping(value)
        share, steps, wall = number(facts.get("share")), integer(facts.get("kept_steps")), facts.get("wall_seconds")
        if share is None or steps is None or number(wall) is None:
            return None
        names = [name for name in cls.__dataclass_fields__ if name.endswith("seconds")]
        seconds = {name: number(facts.get(name)) or 0.0 for name in names}
        return cls(share, steps, failures=integer(facts.get("failures")) or 0, **seconds)


@dataclass(frozen=True)
class _AttemptTimes:
    """An attempt: its span, the step it began from, its windows, and whether it failed."""

    start: float
    end: float
    resumed: int
    windows: Sequence[Window]
    failed: bool
    wanted: bool  # whether the time until the next attempt counts

    @property
    def reached(self) -> int:
        return self.windows[-1].step if self.windows else self.resumed

    @property
    def begin(self) -> float:
        """When the first step began."""
        return self.windows[0].time - self.windows[0].seconds if self.windows else self.end


def measure_goodput(run: RunFolder, events: Sequence[Event], now: float | None = None) -> Goodput | None:
    """Measure the goodput of a run.

    Args:
        run: The run folder, for the chief's telemetry.
        events: Its events, oldest first.
        now: End of the newest attempt while its end is not recorded, in Unix seconds.

    Returns:
        The goodput; ``None`` before the first window in which no graph was traced, and for a user's own program.
    """
    windows = {attempt: found for attempt, found, _ in read_attempt_windows(run, 0)}
    return goodput_of(events, windows, now)


def goodput_of(events: Sequence[Event], windows: dict[int, list[Window]], now: float | None = None) -> Goodput | None:
    """Compute goodput from a run's events and the chief's windows of each attempt."""
    step_seconds = undisturbed_step_seconds([window for found in windows.values() for window in found])
    attempts = _attempts(events, windows, now)
    if step_seconds is None or not attempts:
        return None
    following = [*attempts[1:], None]
    kept = max(attempts[-1].reached, attempts[-1].resumed)
    lost = start = restart = waiting = 0.0
    for place, (attempt, after) in enumerate(zip(attempts, following, strict=True)):
        begins = max(0.0, attempt.begin - attempt.start) + _tracing(attempt.windows, step_seconds)
        start, restart = (start + begins, restart) if place == 0 else (start, restart + begins)
        if after is not None:
            lost += max(0.0, _lost(attempt, after, step_seconds))
            waiting += max(0.0, after.start - attempt.end) if attempt.wanted else 0.0
        elif attempt.failed:
            lost += max(0.0, attempt.end - max(attempt.begin, *(window.time for window in attempt.windows), 0.0))
    lost_here, joins = _world_changes(events)
    lost, restart = lost + lost_here, restart + joins
    wall = sum(attempt.end - attempt.start for attempt in attempts) + waiting
    saved = (CheckpointSave.from_event(event) for event in events)
    checkpoints = sum(each.waited_seconds or 0.0 for each in saved if each is not None)
    useful = kept * step_seconds
    other = wall - useful - start - lost - restart - checkpoints - waiting
    if wall <= 0:
        return None
    return Goodput(
        share=min(1.0, useful / wall),
        kept_steps=kept,
        step_seconds=step_seconds,
        wall_seconds=wall,
        failures=sum(attempt.failed for attempt in attempts),
        start_seconds=start,
        lost_seconds=lost,
        restart_seconds=restart,
        checkpoint_seconds=checkpoints,
        waiting_seconds=waiting,
        other_seconds=max(0.0, other),
    )


def undisturbed_step_seconds(windows: Sequence[Window]) -> float | None:
    """The median seconds per step over windows of the most ranks in which no graph was traced; ``None`` without any."""
    most = max((window.size for window in windows), default=0)
    steady = [window for window in windows if not window.compiled and window.size == most and window.steps > 0]
    return median(window.seconds / window.steps for window in steady) if steady else None


def _world_changes(events: Sequence[Event]) -> tuple[float, float]:
    """Seconds in which an elastic run formed worlds: because of losses, and for ranks that joined."""
    worlds = [world for event in events if (world := WorldFormed.from_event(event)) is not None]
    seconds = [(world.cause, max(world.seconds.values(), default=0.0)) for world in worlds]
    losses = sum(each for cause, each in seconds if cause in ("loss", "exchange"))
    return losses, sum(each for cause, each in seconds if cause == "join")


def _tracing(windows: Sequence[Window], step_seconds: float) -> float:
    traced = [window for window in windows if window.compiled]
    return sum(max(0.0, window.seconds - window.steps * step_seconds) for window in traced)


def _lost(attempt: _AttemptTimes, after: _AttemptTimes, step_seconds: float) -> float:
    """Seconds of an attempt after its last window, and of the windows whose steps the next attempt repeats."""
    tail = attempt.end - attempt.windows[-1].time if attempt.windows else 0.0
    return tail + (attempt.reached - after.resumed) * step_seconds


def _attempts(events: Sequence[Event], windows: dict[int, list[Window]], now: float | None) -> list[_AttemptTimes]:
    wall = wall_time(events, now)
    starts = [place for place, event in enumerate(events) if event.kind == EventKind.ATTEMPT_STARTED]
    found: list[_AttemptTimes] = []
    for number_, place in enumerate(starts):
        number = events[place].attempt or number_ + 1
        until = starts[number_ + 1] if number_ + 1 < len(starts) else len(events)
        own = events[place:until]
        mine = windows.get(number, [])
        span = wall.attempts[number_] if wall else (0.0, 0.0)
        kinds = [event.kind for event in own]
        ended = [kind for kind in kinds if kind in _ENDS]
        vanished = not ended and number_ + 1 < len(starts)
        found.append(
            _AttemptTimes(
                start=span[0],
                end=max(span[1], mine[-1].time if mine and vanished else span[1]),
                resumed=_resumed(events[:place], own, mine),
                windows=mine,
                failed=vanished or any(kind in (EventKind.RESTARTING, EventKind.FAILED) for kind in ended),
                wanted=not ended or ended[-1] not in (EventKind.FAILED, EventKind.CANCELLED),
            )
        )
    return found


_ENDS = (EventKind.RESTARTING, EventKind.FAILED, EventKind.CANCELLED, EventKind.PREEMPTED, EventKind.COMPLETED)


def _resumed(before: Sequence[Event], own: Sequence[Event], windows: Sequence[Window]) -> int:
    """The step from which an attempt went on: as recorded, else the newest checkpoint before it."""
    for event in own:
        if event.kind == EventKind.RESUMED and isinstance(event.facts.get("step"), int):
            return int(event.facts["step"])
    if windows:
        return windows[0].step - windows[0].steps
    saved = (CheckpointSave.from_event(event) for event in before)
    return max((each.step for each in saved if each is not None), default=0)
