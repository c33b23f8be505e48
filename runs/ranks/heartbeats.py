"""Heartbeats: each process writes its phase and step.

``beat`` notes the position of the loop in memory. A thread writes the newest note to disk twice a second, so the last
note before a hang is never lost, and every few seconds a sign of life.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from enum import Enum
from pathlib import Path

from saman.configs.regular_files import read_regular
from saman.runs import variables
from saman.runs.files.whole import parse_json

WRITE_SECONDS = 0.5  # delay of a note on its way to the disk, at most
ALIVE_SECONDS = 5.0  # interval of signs of life, at most


class Phase(str, Enum):
    """The phases of a process, in their order; ``script`` is that of a user's own program.

    ``wait`` is that of a process of an elastic run that is in no world.
    """

    START = "start"
    COMPILE = "compile"
    TRAIN = "train"
    VALIDATE = "validate"
    CHECKPOINT = "checkpoint"
    EXPORT = "export"
    SCRIPT = "script"
    WAIT = "wait"
    DONE = "done"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Beat:
    """Position of a process. ``time`` is its last progress, ``alive`` its last sign of life.

    In a file both are Unix seconds by the clock of the process's node; ``BeatObserver`` replaces them.

    ``busy_seconds`` are its newest seconds per step before it could exchange with other ranks: they tell a straggler
    from the ranks that wait for it. The peers of a process are those of the same ``stage``.
    """

    phase: str
    step: int = 0
    epoch: int = 0
    pid: int = 0
    time: float = 0.0
    alive: float = 0.0
    total_steps: int | None = None
    busy_seconds: float | None = None
    stage: int | None = None
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

    @property
    def step(self) -> int:
        """The step of the newest note."""
        return self._note.step

    @classmethod
    def from_environment(cls) -> Heartbeat | None:
        """Start the heartbeat that the launcher watches (``SAMAN_HEARTBEAT``); ``None`` outside a launcher."""
        path = os.environ.get(variables.HEARTBEAT)
        return cls(Path(path)) if path else None

    def beat(self, phase: str, step: int = 0, epoch: int = 0, total_steps: int | None = None) -> None:
        """Note progress; a thread writes the note later.

        Args:
            phase: A value of ``Phase``.
            step: Optimiser steps taken in the whole run.
            epoch: The current epoch.
            total_steps: Optimiser steps of the whole run; ``None`` if not known.
        """
        note = replace(self._note, phase=phase, step=step, epoch=epoch, total_steps=total_steps)
        self._note = replace(note, time=time.time(), process_state="")

    def note_pace(self, busy_seconds: float | None, stage: int | None) -> None:
        """Note the newest seconds per step before this process could exchange, and its stage of a pipeline."""
        self._note = replace(self._note, busy_seconds=busy_seconds, stage=stage)

    def mark(self, process_state: str) -> None:
        """Note the state of the watched process; does not count as progress."""
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
    """Put a heartbeat at ``path``, whole; without fsync, because heartbeats from before a crash do not matter."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(asdict(beat)))
    temporary.replace(path)


class BeatObserver:
    """Times heartbeats by the clock of this process, whenever it sees them change.

    The clocks of nodes differ, by hours where nobody sets them, and may be set back: the times in a heartbeat say that
    it changed, never when.
    """

    def __init__(self) -> None:
        self._written: dict[int, Beat] = {}
        self._seen: dict[int, Beat] = {}
        self._ended: dict[int, int] = {}  # process ids

    def forget(self, ranks: Iterable[int]) -> None:
        """Note that the processes of ranks have ended: what they wrote last says nothing about those that follow."""
        for rank in ranks:
            if (last := self._written.pop(rank, None)) is not None:
                self._ended[rank] = last.pid

    def observe(self, beats: Mapping[int, Beat], now: float) -> dict[int, Beat]:
        """Return the heartbeats with the times at which this observer first saw their progress and sign of life.

        Those of processes that have ended are left out.

        Args:
            beats: The newest heartbeat of each process, by first rank.
            now: The time of this look (seconds of this process's monotonic clock).
        """
        beats = {rank: beat for rank, beat in beats.items() if beat.pid != self._ended.get(rank)}
        for rank, beat in beats.items():
            before, seen = self._written.get(rank), self._seen.get(rank)
            moved = before is None or seen is None or _position(before) != _position(beat)
            lives = moved or before is None or before.alive != beat.alive
            self._seen[rank] = replace(
                beat,
                time=now if moved or seen is None else seen.time,
                alive=now if lives or seen is None else seen.alive,
            )
            self._written[rank] = beat
        return {rank: self._seen[rank] for rank in beats}


def _position(beat: Beat) -> tuple[object, ...]:
    """What changes with every progress; two processes of a rank may note the same step."""
    return beat.phase, beat.epoch, beat.step, beat.pid, beat.time


def last_sign_of_life(path: Path) -> float | None:
    """When the heartbeat at ``path`` was last written, in Unix seconds by the clock of the file system."""
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def read_beat(path: Path) -> Beat | None:
    """Read the heartbeat at ``path``; ``None`` if it is missing or torn."""
    try:
        return beat_from_json(parse_json(read_regular(path)))
    except (OSError, ValueError):
        return None


def beat_from_json(value: object) -> Beat | None:
    """Take a heartbeat out of its JSON object; ``None`` for any other object."""
    try:
        return Beat(**{key: item for key, item in value.items() if key in Beat.__dataclass_fields__})  # type: ignore[attr-defined]
    except (TypeError, AttributeError):
        return None
