"""Heartbeats: what phase and step a process is in, written by the process itself, and who has stopped moving.

``beat`` only notes where the loop is; a thread of its own puts the newest note on disk twice a second, so that the
last note before a hang is never lost, and shows every few seconds that the process still answers.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

PHASES = ("start", "compile", "train", "validate", "checkpoint", "export", "script", "done")
WRITE_SECONDS = 0.5  # the newest note reaches the disk within this
ALIVE_SECONDS = 5.0  # a process that answers says so at least this often
# Phases without a limit of their own: the one whose limit they take, None for "never stalls".
_LIMIT_OF: Mapping[str, str | None] = {"export": "checkpoint", "script": "train", "done": None}


@dataclass(frozen=True)
class Beat:
    """Where a process stands. ``time`` (Unix seconds) is its last progress, ``alive`` its last sign of life."""

    phase: str
    step: int = 0
    epoch: int = 0
    pid: int = 0
    time: float = 0.0
    alive: float = 0.0
    total_steps: int | None = None
    process_state: str = ""  # the letter of /proc/PID/stat, where the wrapper of a script writes the beats


class Heartbeat:
    """Keeps the heartbeat file of this process; ``beat`` costs an assignment and never raises."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._note = Beat("start", pid=os.getpid(), time=time.time())
        self._written: Beat | None = None
        self._write_lock = threading.Lock()
        self._closed = threading.Event()
        self._write()
        threading.Thread(target=self._keep_writing, name="heartbeat", daemon=True).start()

    @classmethod
    def from_environment(cls) -> Heartbeat | None:
        """The heartbeat that the launcher watches (``SAMAN_HEARTBEAT``); ``None`` where nobody does."""
        path = os.environ.get("SAMAN_HEARTBEAT")
        return cls(Path(path)) if path else None

    def beat(self, phase: str, step: int = 0, epoch: int = 0, total_steps: int | None = None) -> None:
        """Note progress: ``step`` of ``total_steps`` of the whole run, in ``epoch``, during one of ``PHASES``."""
        self._note = Beat(phase, step, epoch, self._note.pid, time.time(), 0.0, total_steps)

    def mark(self, process_state: str) -> None:
        """Note the state in which the watched process is, without calling that progress."""
        self._note = replace(self._note, process_state=process_state)

    def close(self, phase: str = "done") -> None:
        """Write the last note with ``phase`` and stop writing."""
        note = self._note
        self.beat(phase, note.step, note.epoch, note.total_steps)
        self._closed.set()
        self._write()

    def _keep_writing(self) -> None:
        while not self._closed.wait(WRITE_SECONDS):
            silent = time.time() - (self._written.alive if self._written else 0.0)
            if self._written is None or self._note.time != self._written.time or silent >= ALIVE_SECONDS:
                self._write()

    def _write(self) -> None:
        # A full disk must not end a training over its heartbeat.
        with self._write_lock, contextlib.suppress(OSError):
            beat = replace(self._note, alive=time.time())
            write_beat(self.path, beat)
            self._written = beat


def write_beat(path: Path, beat: Beat) -> None:
    """Put a heartbeat at ``path``, whole; without fsync, for only the living count."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(asdict(beat)))
    temporary.replace(path)


def read_beat(path: Path) -> Beat | None:
    """The heartbeat at ``path``; ``None`` where there is none or it is torn."""
    try:
        value = json.loads(path.read_text())
        return Beat(**{key: item for key, item in value.items() if key in Beat.__dataclass_fields__})
    except (OSError, ValueError, TypeError, AttributeError):
        return None


@dataclass(frozen=True)
class Stall:
    """No progress for ``seconds``: the ranks that are behind the others, in which phase, at which step."""

    ranks: tuple[int, ...]
    phase: str
    step: int
    seconds: float
    limit_seconds: float
    reason: str

    def sentence(self) -> str:
        """For people: who is behind, where, for how long."""
        who = f"rank {self.ranks[0]}" if len(self.ranks) == 1 else f"ranks {', '.join(map(str, self.ranks))}"
        return (
            f"{who}: no progress for {self.seconds:.0f} s in phase {self.phase} at step {self.step} "
            f"(limit {self.limit_seconds:g} s); {self.reason}"
        )


def limit_seconds(phase: str, limits: Mapping[str, float]) -> float | None:
    """How long a process may stay in ``phase`` without progress; ``None`` for ever."""
    key = _LIMIT_OF.get(phase, phase)
    return limits.get(key) if key is not None else None


def find_stall(beats: Mapping[int, Beat], limits: Mapping[str, float], now: float) -> Stall | None:
    """The stall that the newest beats (by first rank of each process) show at ``now``; ``None`` while all is well.

    Ranks wait for each other, so one that hangs stops all. It is those behind that count, and the limits of their
    phases: who waits in ``train`` for a rank that compiles has not stalled.
    """
    running = {rank: beat for rank, beat in beats.items() if beat.phase != "done"}
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
    """Who holds up the others, and how that shows: a stopped process, one that no longer answers, the fewest steps."""
    stopped = {rank: beat for rank, beat in overdue.items() if beat.process_state in ("T", "t")}
    if stopped:
        return stopped, "its process is stopped (SIGSTOP)"
    newest = max(beat.alive for beat in running.values())
    silent = {rank: beat for rank, beat in overdue.items() if newest - beat.alive > ALIVE_SECONDS + 2 * WRITE_SECONDS}
    if silent:
        return silent, "it does not answer (stopped, swapped out, or its node is gone)"
    if all(beat.phase == "script" for beat in running.values()):
        return dict(overdue), "it neither computes nor prints"
    place = {rank: (beat.epoch, beat.step, _order(beat.phase)) for rank, beat in running.items()}
    least = min(place.values())
    behind = {rank: running[rank] for rank, where in place.items() if where == least}
    if len(behind) < len(running):
        return behind, "it is behind the others"
    phases = Counter(beat.phase for beat in behind.values())
    if len(phases) > 1:  # at one step the others wait for those who do something else
        odd = min(phases, key=lambda phase: (phases[phase], phase == "train"))
        chosen = {rank: beat for rank, beat in behind.items() if beat.phase == odd}
        return chosen, f"the others are in phase {phases.most_common(1)[0][0]}"
    return behind, "all ranks stand at the same step"


def _overdue(beat: Beat, limits: Mapping[str, float], now: float) -> bool:
    limit = limit_seconds(beat.phase, limits)
    return limit is not None and now - beat.time > limit


def _order(phase: str) -> int:
    """start and compile come before the rest, which alternate within a step."""
    return min(PHASES.index(phase), 2) if phase in PHASES else 0
