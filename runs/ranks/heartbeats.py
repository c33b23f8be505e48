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
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from saman.runs import variables

PHASES = ("start", "compile", "train", "validate", "checkpoint", "export", "script", "done")
WRITE_SECONDS = 0.5  # delay of a note on its way to the disk, at most
ALIVE_SECONDS = 5.0  # interval of signs of life, at most


@dataclass(frozen=True)
class Beat:
    """Position of a process. ``time`` (Unix seconds) is its last progress, ``alive`` its last sign of life."""

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
        """Start the heartbeat that the launcher watches (``SAMAN_HEARTBEAT``); ``None`` outside a launcher."""
        path = os.environ.get(variables.HEARTBEAT)
        return cls(Path(path)) if path else None

    def beat(self, phase: str, step: int = 0, epoch: int = 0, total_steps: int | None = None) -> None:
        """Note progress; a thread writes the note later.

        Args:
            phase: A phase of ``PHASES``.
            step: Optimiser steps taken in the whole run.
            epoch: The current epoch.
            total_steps: Optimiser steps of the whole run; ``None`` if not known.
        """
        self._note = Beat(phase, step, epoch, pid=self._note.pid, time=time.time(), total_steps=total_steps)

    def mark(self, process_state: str) -> None:
        """Note the state of the watched process; this is no progress."""
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


def read_beat(path: Path) -> Beat | None:
    """Read the heartbeat at ``path``; ``None`` if it is missing or torn."""
    try:
        value = json.loads(path.read_text())
        return Beat(**{key: item for key, item in value.items() if key in Beat.__dataclass_fields__})
    except (OSError, ValueError, TypeError, AttributeError):
        return None
