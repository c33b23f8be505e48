"""The progress of a run, from its heartbeats, its telemetry and its events."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from saman.launcher.plan.placement import Placement
from saman.runs.elastic.world_events import WorldFormed
from saman.runs.events import Event
from saman.runs.files.whole import parse_json
from saman.runs.folder import Attempt
from saman.runs.growing_files import Follower
from saman.runs.ranks.attempt_ranks import AttemptRanks, signs_of_life
from saman.runs.ranks.heartbeats import Beat, Phase
from saman.runs.ranks.records import RankRecord
from saman.runs.ranks.training_events import EpochEnd
from saman.runs.telemetry.step_statistics import StepStatistics, step_statistics
from saman.runs.telemetry.stragglers import Straggler, stragglers
from saman.runs.telemetry.throughput import chief_throughput
from saman.runs.telemetry.window import Window

NEWEST_BYTES = 1 << 16  # of telemetry of a rank at the first reading
REOPEN_SECONDS = 5.0  # between two looks for telemetry by name
_CHIEF = re.compile(r'"rank": ?0\b')


@dataclass(frozen=True)
class TrainingProgress:
    """The progress of a run; unknown values are ``None``. ``behind`` is the rank with the fewest steps.

    ``samples_per_second`` is sustained throughput over the newest windows. ``stragglers`` hold up the others now.
    ``memory_bytes`` is the peak memory of the chief's process.
    """

    phase: str
    epoch: int
    step: int
    total_steps: int | None = None
    samples_per_second: float | None = None
    loss: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    remaining_seconds: float | None = None
    behind: int | None = None
    stragglers: tuple[Straggler, ...] = ()
    steps: StepStatistics | None = None
    memory_bytes: int | None = None


class AttemptWatch:
    """Reads the heartbeats and the telemetry of one attempt: repeatedly, or ``once``."""

    def __init__(self, attempt: Attempt, placement: Placement, once: bool = False) -> None:
        self.attempt, self.placement = attempt, placement
        self._nodes = {process.first_rank: process.node for process in placement.processes}
        self._ranks = AttemptRanks(attempt, None if once else len(placement.nodes), keep_open=not once)
        self._reopen = 0.0 if once else REOPEN_SECONDS
        self._chief_node = 0
        self._members: tuple[int, ...] = ()  # of the newest world of an elastic run, the chief first
        self._telemetry = self._follow_chief()
        self._windows: deque[Window] = deque(maxlen=10)
        self._metrics: dict[str, float] = {}

    def beats(self) -> dict[int, Beat]:
        """Read the newest heartbeats, by the first rank of the process; a process without heartbeat is left out."""
        self._ranks.look()
        return {rank: beat for rank, beat in self._ranks.beats.items() if rank in self._nodes}

    @property
    def records(self) -> dict[int, RankRecord]:
        """The records that nodes had reported when the heartbeats were read, by first rank."""
        return self._ranks.records

    def silent_seconds(self, now: float) -> float | None:
        """Seconds at Unix time ``now`` without a sign of life from a supervised process; ``None`` before the first."""
        alive = signs_of_life(self.attempt).values()
        return max(0.0, now - max(alive)) if alive else None

    def note(self, event: Event) -> None:
        """Take the metrics of an epoch from its event, and the members of an elastic run from that of a world."""
        if event.attempt != self.attempt.number:
            return
        if (epoch := EpochEnd.from_event(event)) is not None:
            self._metrics = epoch.finite_metrics()
        elif (world := WorldFormed.from_event(event)) is not None:
            self._members = world.slots
            node = self._node_of(world.slots[:1])
            if node != self._chief_node:
                self._chief_node = node
                self._close_telemetry()
                self._telemetry = self._follow_chief()

    def _node_of(self, slots: Sequence[int]) -> int:
        """The index of the node on which the first of these processes runs; 0 if it is not known."""
        processes = self.placement.processes
        known = (processes[slot].node for slot in slots if slot < len(processes))
        return next((self.placement.nodes.index(node) for node in known), 0)

    def _follow_chief(self) -> tuple[Follower, Follower]:
        """The telemetry of the chief's node, and that of the chief where no node gathers."""
        node, reopen = self._chief_node, self._reopen
        here = len(self.placement.on(self.placement.nodes[node]))
        return (
            Follower(self.attempt.node_telemetry(node), NEWEST_BYTES * here, reopen_seconds=reopen),
            Follower(self.attempt.telemetry(0), NEWEST_BYTES, reopen_seconds=reopen),
        )

    def _close_telemetry(self) -> None:
        for follower in self._telemetry:
            follower.close()

    def close(self) -> None:
        """Close the files that the supervisor keeps open between looks."""
        self._ranks.close()
        self._close_telemetry()

    def progress(self, beats: Mapping[int, Beat]) -> TrainingProgress:
        """Combine the heartbeats with the chief's newest telemetry."""
        for line in self._new_lines():
            try:
                window = Window.from_json(parse_json(line)) if _CHIEF.search(line) else None
            except ValueError:
                continue
            if window is not None and window.rank == 0:
                self._windows.append(window)
        # What a rank wrote last, which an elastic run has lost, stays.
        beats = {rank: beats[rank] for rank in self._members if rank in beats} or beats
        beats = {rank: beat for rank, beat in beats.items() if beat.phase != Phase.WAIT} or beats
        speaker = self._members[0] if self._members else 0
        chief = beats.get(speaker) or max(beats.values(), key=lambda beat: beat.step, default=Beat("start"))
        steady = [window for window in self._windows if not window.compiled] or list(self._windows)
        steps = sum(window.steps for window in steady)
        pace = sum(window.seconds for window in steady) / steps if steps else None
        measured = chief_throughput(self._windows)
        left = chief.total_steps - chief.step if chief.total_steps is not None else None
        slowest = min(beats, key=lambda rank: (beats[rank].step, beats[rank].time), default=None)
        uneven = len({beat.step for beat in beats.values()}) > 1
        return TrainingProgress(
            phase=chief.phase,
            epoch=chief.epoch,
            step=chief.step,
            total_steps=chief.total_steps,
            samples_per_second=measured.sustained if measured else None,
            loss=self._windows[-1].loss if self._windows else None,
            metrics=self._metrics,
            remaining_seconds=pace * left if pace is not None and left is not None else None,
            behind=slowest if uneven else None,
            stragglers=tuple(self._stragglers(beats)),
            steps=step_statistics(self._windows),
            memory_bytes=self._windows[-1].memory_bytes if self._windows else None,
        )

    def _new_lines(self) -> list[str]:
        """The lines of telemetry since the last look, from the first file that is there."""
        for follower in self._telemetry:
            lines = follower.lines()
            if follower.found:
                return lines
        return []

    def _stragglers(self, beats: Mapping[int, Beat]) -> list[Straggler]:
        """Ranks whose newest steps take longer than those of their peers, slowest first."""
        groups: dict[int | None, dict[int, float]] = {}
        for rank, beat in beats.items():
            if beat.phase == "train" and beat.busy_seconds is not None:
                groups.setdefault(beat.stage, {})[rank] = beat.busy_seconds
        found = [straggler for group in groups.values() for straggler in stragglers(group, self._nodes)]
        return sorted(found, key=lambda straggler: -straggler.slower)
