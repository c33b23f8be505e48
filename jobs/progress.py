"""How far a run is: the newest attempt's heartbeats and telemetry, read without disturbing it."""

from __future__ import annotations

from dataclasses import dataclass

from saman.configs.files import read_json
from saman.launcher.plan.placement import Placement
from saman.launcher.supervision.progress import AttemptWatch
from saman.runs.folder import RunFolder

SILENT_SECONDS = 90.0  # a run that shows no sign of life for so long, and has no job, is gone


_WORDS = {"start": "starting", "script": "its program runs"}


@dataclass(frozen=True)
class AttemptProgress:
    """How far the newest attempt is, by its heartbeats and telemetry."""

    phase: str
    epoch: int
    step: int
    total_steps: int | None
    samples_per_second: float | None
    seconds_left: float | None
    silent_seconds: float

    def sentence(self) -> str:
        """For people: where it is, how fast, how much longer."""
        parts = [_WORDS.get(self.phase, self.phase)]
        if self.step or self.phase == "train":
            of = f" of {self.total_steps}" if self.total_steps else ""
            parts = [f"epoch {self.epoch}", f"step {self.step}{of}"]
            if self.phase != "train":
                parts.insert(0, self.phase)
        if self.samples_per_second:
            parts.append(f"{self.samples_per_second:.4g} samples/s")
        if self.seconds_left is not None:
            parts.append(f"{ago(self.seconds_left)} left")
        if self.silent_seconds > SILENT_SECONDS / 2:
            parts.append(f"no sign of life for {ago(self.silent_seconds)}")
        return ", ".join(parts)


def read_progress(run: RunFolder, now: float) -> AttemptProgress | None:
    """How far the newest attempt is; ``None`` before any rank has shown a sign of life."""
    attempts = run.attempts()
    value = read_json(attempts[-1].placement) if attempts else None
    if not isinstance(value, dict):
        return None
    watch = AttemptWatch(attempts[-1], Placement.from_json(value))
    beats = watch.beats()
    if not beats:
        return None
    seen = watch.progress(beats)
    silent = now - max(beat.alive for beat in beats.values())
    return AttemptProgress(
        seen.phase, seen.epoch, seen.step, seen.total_steps, seen.samples_per_second, seen.remaining_seconds, silent
    )


def ago(seconds: float) -> str:
    """A duration for people."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
