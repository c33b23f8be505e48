"""Records a process in the run folder: its rank record, its first heartbeat, and the events about it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from saman.configs.errors import ExitCode
from saman.launcher.supervision import processes
from saman.runs.folder import Attempt, RunFolder
from saman.runs.growing_files import last_lines
from saman.runs.ranks.heartbeats import Beat, read_beat, write_beat
from saman.runs.ranks.rank_events import FailureKind, RankExited
from saman.runs.ranks.records import RankRecord


class RankRecorder:
    """Writes what happens to a process.

    ``record`` is its newest rank record, ``own`` the folder in which the processes of its node write.
    """

    def __init__(self, run: RunFolder, attempt: Attempt, own: Attempt, record: RankRecord) -> None:
        self.run, self.attempt, self.own, self.record = run, attempt, own, record

    @property
    def _rank(self) -> int:
        return self.record.first_rank

    def not_started(self, command: Sequence[str], error: OSError) -> int:
        """Record a program that cannot be started; returns the shell's exit status for that."""
        message = f"{command[0]!r} cannot be started: {error.strerror}"
        if error.filename not in (None, command[0]):
            message += f": {error.filename}"
        kind = FailureKind.USER_ERROR.value
        self._append("rank_failed", failure=kind, message=message, rank=self._rank, node=self.record.node)
        now, code = time.time(), 127 if isinstance(error, FileNotFoundError) else 126
        self.record = self.record.ending(started=now, ended=now, code=code, last_lines=(message,))
        self._write()
        self._append_exit()
        return code

    def started(self, pid: int, wanted_cores: int) -> None:
        """Record the start of the program, and a notice if it gets fewer cores than planned."""
        seen, now = processes.find_process(pid), time.time()
        self.record = self.record.ending(pid=pid, pid_started=seen.started if seen else None, started=now)
        record, heartbeat = self.record, self.own.heartbeat(self._rank)
        self._write()
        before = read_beat(heartbeat)
        if not self.run.is_script and (before is None or before.pid != pid):  # of the process that it replaces
            # The program is starting until its own first heartbeat.
            write_beat(heartbeat, Beat("start", pid=pid, time=now, alive=now))
        self._append(
            "rank_started", rank=self._rank, node=record.node, cores=list(record.cores), gpus=list(record.gpus)
        )
        if len(record.cores) < wanted_cores:
            allowed = f"{len(record.cores)} of the {wanted_cores} planned cores are allowed on {record.node}"
            self._append("notice", text=f"rank {self._rank}: {allowed}", rank=self._rank)

    def exited(self, status: int, stopped: bool, log: Path) -> bool:
        """Record the exit of the program; returns whether it failed.

        Args:
            status: the exit status; negative for a signal.
            stopped: whether the program received a request to stop.
            log: the program's output; its last lines are kept if it failed.
        """
        code, number = (status, None) if status >= 0 else (None, -status)
        lines = last_lines(log) if code not in (ExitCode.DONE, ExitCode.REQUEUE) else ()
        end = {"ended": time.time(), "stopped": stopped, "last_lines": lines, "code": code, "signal": number}
        self.record = self.record.ending(**end)
        with contextlib.suppress(OSError):  # the supervisor reports a full disk
            self._write()
        with contextlib.suppress(OSError):
            self._append_exit()
        return self.record.failed

    def _write(self) -> None:
        self.record.write(self.own.rank_record(self._rank))

    def _append_exit(self) -> None:
        record = self.record
        exited = RankExited(
            rank=record.first_rank,
            node=record.node,
            code=record.code,
            signal=record.signal,
            stopped=record.stopped,
            last_lines=record.last_lines,
        )
        self._append("rank_exited", **exited.facts())

    def _append(self, kind: str, **facts: Any) -> None:
        self.run.append(kind, f"rank {self._rank}", self.attempt.number, **facts)
