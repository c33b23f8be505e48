"""How far a run is: the newest attempt's heartbeats and telemetry, read without disturbing it."""

from __future__ import annotations

from dataclasses import dataclass

from saman.configs.files import read_lines
from saman.configs.records import Window
from saman.launcher.heartbeat import read_beat
from saman.launcher.run_folder import RunFolder

SILENT_SECONDS = 90.0  # a run that shows no sign of life for so long, and has no job, is gone


@dataclass(frozen=True)
class Progress:
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
        parts = [self.phase]
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


def read_progress(run: RunFolder, now: float) -> Progress | None:
    """How far the newest attempt is; ``None`` before any rank has shown a sign of life."""
    attempts = run.attempts()
    if not attempts:
        return None
    files = (attempts[-1].path / "ranks").glob("*.heartbeat.json")
    beats = {file.name: beat for file in sorted(files) if (beat := read_beat(file)) is not None}
    if not beats:
        return None
    chief = next(iter(beats.values()))
    silent = now - max(beat.alive for beat in beats.values())
    rate, seconds_per_step = _speed(run, attempts[-1].number)
    left = None
    if chief.total_steps and seconds_per_step is not None:
        left = max(0, chief.total_steps - chief.step) * seconds_per_step
    return Progress(chief.phase, chief.epoch, chief.step, chief.total_steps, rate, left, silent)


def _speed(run: RunFolder, attempt: int) -> tuple[float | None, float | None]:
    """Samples per second of all ranks and seconds per step, in the newest window of the attempt."""
    rate, per_step = 0.0, None
    for file in sorted((run.attempt(attempt).path / "telemetry").glob("*.jsonl")):
        window = next((one for line in reversed(read_lines(file)[0]) if (one := Window.from_json(line))), None)
        if window is None or window.seconds <= 0:
            continue
        rate += window.samples / window.seconds
        per_step = per_step or window.seconds / max(1, window.steps)
    return rate or None, per_step


def ago(seconds: float) -> str:
    """A duration for people."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
