"""Finds the ranks that make no progress, from their heartbeats. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from saman.runs.ranks.heartbeats import ALIVE_SECONDS, Beat, Phase

SILENT_SECONDS = 2 * ALIVE_SECONDS  # without a sign of life, while others show theirs
_AT_REST = (Phase.WAIT, Phase.DONE)  # nobody waits for such a process
# Phase without its own limit -> the phase with the limit that applies.
_LIMIT_OF: Mapping[str, str] = {Phase.EXPORT: Phase.CHECKPOINT, Phase.SCRIPT: Phase.TRAIN}


@dataclass(frozen=True)
class Stall:
    """No progress for ``seconds``: the ranks that are behind the others, their phase and step."""

    ranks: tuple[int, ...]
    phase: str
    step: int
    seconds: float
    limit_seconds: float
    reason: str

    def sentence(self) -> str:
        """The stall for people: ranks, phase, step and duration."""
        who = f"rank {self.ranks[0]}" if len(self.ranks) == 1 else f"ranks {', '.join(map(str, self.ranks))}"
        return (
            f"{who}: no progress for {self.seconds:.0f} s in phase {self.phase} at step {self.step} "
            f"(limit {self.limit_seconds:g} s); {self.reason}"
        )


def limit_seconds(phase: str, limits: Mapping[str, float]) -> float | None:
    """How long a process may stay in ``phase`` without progress; ``None`` without a limit."""
    return None if phase in _AT_REST else limits.get(_LIMIT_OF.get(phase, phase))


def find_stall(beats: Mapping[int, Beat], limits: Mapping[str, float], now: float) -> Stall | None:
    """Find the stall in the newest heartbeats; ``None`` without a stall.

    Ranks wait for each other, so one rank that hangs stops all. Only the ranks behind count, with the limits of their
    phases: a rank that waits in ``train`` while another rank compiles has not stalled.

    Args:
        beats: the newest heartbeat of each process, by first rank, dated by the observer's clock (``BeatObserver``).
        limits: the limit of each phase, in seconds.
        now: the time of the check, by the same clock.
    """
    running = {rank: beat for rank, beat in beats.items() if beat.phase not in _AT_REST}
    overdue = {rank: beat for rank, beat in running.items() if _overdue(beat, limits, now)}
    if not overdue:
        return None
    behind, reason = _behind(running, overdue)
    if not all(rank in overdue for rank in behind):
        return None
    first = min(behind.values(), key=lambda beat: beat.time)
    limit = limit_seconds(first.phase, limits) or 0.0
    return Stall(tuple(sorted(behind)), first.phase, first.step, now - first.time, limit, reason)


def _behind(running: Mapping[int, Beat], overdue: Mapping[int, Beat]) -> tuple[dict[int, Beat], str]:
    """The ranks that hold up the others, and the evidence: a stopped process, a silent process, or the fewest steps."""
    stopped = {rank: beat for rank, beat in overdue.items() if beat.process_state in ("T", "t")}
    if stopped:
        return stopped, "its process is stopped (SIGSTOP)"
    newest = max(beat.alive for beat in running.values())
    silent = {rank: beat for rank, beat in overdue.items() if newest - beat.alive > SILENT_SECONDS}
    if silent:
        return silent, "its process does not respond (stopped, swapped out, or its node failed)"
    if all(beat.phase == Phase.SCRIPT for beat in running.values()):
        return dict(overdue), "it neither uses the CPU nor prints"
    place = {rank: (beat.epoch, beat.step, _order(beat.phase)) for rank, beat in running.items()}
    least = min(place.values())
    behind = {rank: running[rank] for rank, where in place.items() if where == least}
    if len(behind) < len(running):
        return behind, "it is behind the others"
    phases = Counter(beat.phase for beat in behind.values())
    if len(phases) > 1:  # at the same step the majority waits for the minority in another phase
        odd = min(phases, key=lambda phase: (phases[phase], phase == Phase.TRAIN))
        chosen = {rank: beat for rank, beat in behind.items() if beat.phase == odd}
        return chosen, f"the others are in phase {phases.most_common(1)[0][0]}"
    return behind, "all ranks are at the same step"


def _overdue(beat: Beat, limits: Mapping[str, float], now: float) -> bool:
    limit = limit_seconds(beat.phase, limits)
    return limit is not None and now - beat.time > limit


def _order(phase: str) -> int:
    """start and compile come before the rest, which alternate within a step."""
    phases = [known.value for known in Phase]
    return min(phases.index(phase), 2) if phase in phases else 0
