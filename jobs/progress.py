"""Progress of a run by the heartbeats and telemetry of its newest attempt."""

from __future__ import annotations

from dataclasses import dataclass

from saman.configs.units import format_duration
from saman.launcher.plan.placement import Placement
from saman.launcher.supervision.progress import AttemptWatch
from saman.runs.folder import RunFolder
from saman.runs.ranks.heartbeats import Phase
from saman.runs.telemetry.stragglers import Straggler

SILENT_SECONDS = 90.0  # without a sign of life for so long, and without a job, a run has vanished
MOST_NAMED = 3  # stragglers in a sentence
_WORDS = {"start": "starting", "script": "program running"}


@dataclass(frozen=True)
class AttemptProgress:
    """Progress of the newest attempt."""

    phase: str
    epoch: int
    step: int
    total_steps: int | None
    samples_per_second: float | None
    seconds_left: float | None
    silent_seconds: float
    stragglers: tuple[Straggler, ...] = ()

    def sentence(self) -> str:
        """Phase or step, throughput and remaining time, for people."""
        parts = [_WORDS.get(self.phase, self.phase)]
        if self.step or self.phase == Phase.TRAIN:
            of = f" of {self.total_steps}" if self.total_steps else ""
            parts = [f"epoch {self.epoch}", f"step {self.step}{of}"]
            if self.phase != Phase.TRAIN:
                parts.insert(0, self.phase)
        if self.samples_per_second:
            parts.append(f"{self.samples_per_second:.4g} samples/s")
        if self.seconds_left is not None:
            parts.append(f"{format_duration(self.seconds_left)} left")
        parts += [straggler.words for straggler in self.stragglers[:MOST_NAMED]]
        if len(self.stragglers) > MOST_NAMED:
            parts.append(f"{len(self.stragglers) - MOST_NAMED} more ranks are slow")
        if self.silent_seconds > SILENT_SECONDS / 2:
            parts.append(f"no sign of life for {format_duration(self.silent_seconds)}")
        return ", ".join(parts)


def read_progress(run: RunFolder, now: float) -> AttemptProgress | None:
    """Read the progress of the newest attempt at Unix time ``now``; ``None`` before the first heartbeat."""
    attempt = run.last_attempt()
    placement = Placement.read(attempt.placement) if attempt else None
    if attempt is None or placement is None:
        return None
    watch = AttemptWatch(attempt, placement, once=True)
    beats = watch.beats()
    if not beats:
        return None
    for event in run.events():
        watch.note(event)
    seen = watch.progress(beats)
    silent = watch.silent_seconds(now)
    return AttemptProgress(
        phase=seen.phase,
        epoch=seen.epoch,
        step=seen.step,
        total_steps=seen.total_steps,
        samples_per_second=seen.samples_per_second,
        seconds_left=seen.remaining_seconds,
        silent_seconds=0.0 if silent is None else silent,
        stragglers=seen.stragglers,
    )
