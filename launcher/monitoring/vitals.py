"""The vital signs of a run: everything that metrics and ``saman watch`` show, as one value."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass

from saman.launcher.monitoring.gpus import GpuUse
from saman.launcher.monitoring.tally import EventTally
from saman.launcher.plan.placement import Placement
from saman.launcher.supervision.progress import AttemptWatch, TrainingProgress
from saman.runs.events import Event, State
from saman.runs.files.whole import parse_json
from saman.runs.folder import RunFolder
from saman.runs.growing_files import Follower
from saman.runs.telemetry.goodput import Goodput, measure_goodput

GOODPUT_SECONDS, GOODPUT_SHARE = 15.0, 50.0  # between two readings: at least so long, and so often what it took


@dataclass(frozen=True)
class Vitals:
    """The vital signs of a run at Unix time ``time``.

    Attributes:
        run: Its id.
        experiment: The name of its experiment.
        time: Unix seconds.
        tally: What its events say.
        progress: What its ranks report; ``None`` before the first heartbeat, and for a user's own program.
        silent_seconds: Without a sign of life from any rank; ``None`` if not known.
        limit_seconds_left: Until Slurm ends the job; ``None`` without a limit.
        gpus: The GPUs of this node.
        goodput: Share of the time in which steps were taken that count; ``None`` if not known.
    """

    run: str
    experiment: str
    time: float
    tally: EventTally
    progress: TrainingProgress | None = None
    silent_seconds: float | None = None
    limit_seconds_left: float | None = None
    gpus: tuple[GpuUse, ...] = ()
    goodput: float | None = None

    @property
    def checkpoint_age_seconds(self) -> float | None:
        """Seconds since the newest checkpoint; ``None`` without."""
        return None if self.tally.checkpoint is None else max(0.0, self.time - self.tally.checkpoint[0])


class EventReader:
    """Reads the new events of a run into a tally."""

    def __init__(self, run: RunFolder, reopen_seconds: float = 0.0) -> None:
        self.tally = EventTally()
        self._lines = Follower(run.events_file, reopen_seconds=reopen_seconds)

    def look(self) -> list[Event]:
        """Take the events that were appended since the last look at a run's vitals."""
        found = []
        while lines := self._lines.lines():
            for line in lines:
                with contextlib.suppress(ValueError, AttributeError):
                    if (event := Event.from_json(parse_json(line))) is not None:
                        found.append(event)
        self.tally.take_all(found)
        return found

    def close(self) -> None:
        """Close the events of the monitored run."""
        self._lines.close()


class RunReader:
    """Reads the vital signs of any run, look after look, from its folder alone."""

    def __init__(self, run: RunFolder) -> None:
        self._run = run
        self._events = EventReader(run)
        self._watch: AttemptWatch | None = None
        self._attempt = 0
        self._goodput: Goodput | None = None
        self._goodput_at = 0.0

    def look(self) -> tuple[Vitals, list[Event]]:
        """Return the vital signs now, and the events since the last look."""
        found = self._events.look()
        tally = self._events.tally
        self._follow_attempt(tally.attempt)
        progress = silent = None
        now = time.time()
        if self._watch is not None:
            for event in found:
                self._watch.note(event)
            beats = self._watch.beats()
            progress = self._watch.progress(beats) if beats else None
            silent = self._watch.silent_seconds(now)
        vitals = Vitals(
            self._run.id, self._run.experiment_name, now, tally, progress, silent, goodput=self._read_goodput(now)
        )
        return vitals, found

    def close(self) -> None:
        """Close all files of the run's vitals."""
        self._events.close()
        if self._watch is not None:
            self._watch.close()

    def _read_goodput(self, now: float) -> float | None:
        """The goodput, read from time to time: it takes longer, the longer the run is."""
        if time.monotonic() >= self._goodput_at:
            began = time.monotonic()
            end = now if self._events.tally.state is State.RUNNING else None
            self._goodput = measure_goodput(self._run, self._run.events(), end)
            self._goodput_at = began + GOODPUT_SECONDS + GOODPUT_SHARE * (time.monotonic() - began)
        return None if self._goodput is None else self._goodput.share

    def _follow_attempt(self, number: int) -> None:
        if number == self._attempt:
            return
        attempt = self._run.attempt(number)
        placement = Placement.read(attempt.placement)
        if placement is not None:
            if self._watch is not None:
                self._watch.close()
            self._watch, self._attempt = AttemptWatch(attempt, placement), number
