"""Signs of progress of a script that sends no heartbeats: its CPU time and its log."""

from __future__ import annotations

import os
import time
from pathlib import Path

from saman.launcher.supervision import processes
from saman.runs.ranks.heartbeats import Heartbeat, Phase

ACTIVE_CORES = 0.1  # an idle Horovod uses a few hundredths of a core


class ScriptMotion:
    """Writes a heartbeat for a script whenever its log grows or it computes."""

    def __init__(self, pid: int, log: Path, heartbeat: Heartbeat) -> None:
        self.pid, self.log, self.heartbeat = pid, log, heartbeat
        self._ticks, self._size, self._time = 0, 0, time.monotonic()
        heartbeat.beat(Phase.SCRIPT)

    def observe(self) -> None:
        """Write a heartbeat if the log grew or more than ``ACTIVE_CORES`` were used since the last call."""
        seen = processes.find_process(self.pid)
        if seen is None:
            return
        size, now = self.log.stat().st_size, time.monotonic()
        seconds_used = (seen.cpu_ticks - self._ticks) / os.sysconf("SC_CLK_TCK")
        if size != self._size or seconds_used > ACTIVE_CORES * (now - self._time):
            self.heartbeat.beat(Phase.SCRIPT)
        self.heartbeat.mark(seen.state)
        self._ticks, self._size, self._time = seen.cpu_ticks, size, now

    def close(self) -> None:
        """Close the heartbeat."""
        self.heartbeat.close()
