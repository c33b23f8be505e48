"""The processes of a start method and its companions: launching them, keeping their output, ending them."""

from __future__ import annotations

import contextlib
import logging
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import IO

from saman.configs.errors import ExitCode
from saman.launcher.starters.start import Command, Start
from saman.launcher.supervision import processes
from saman.runs import variables
from saman.runs.commands import CommandLog
from saman.runs.elastic.spare_priority import PRIORITY, becomes_spare, set_session_priority
from saman.runs.folder import Attempt, RunFolder
from saman.runs.ranks import parent_death

_log = logging.getLogger(__name__)

STOP_SECONDS = 5.0  # between the stop signal and SIGKILL; the rank wrappers kill their programs after 4
GONE_SECONDS = 2.0  # for all processes to disappear after SIGKILL
STARTER_LOG_BYTES = 32 << 20  # then it is moved to its older part
OUTPUT_LINES = 40  # kept in memory, because a full disk takes no starter.log


class StartProcesses:
    """The processes that the supervisor starts: one per command, and their companions."""

    def __init__(self, run: RunFolder, attempt: Attempt, start: Start, environ: Mapping[str, str]) -> None:
        self.run, self.attempt, self.start, self.environ = run, attempt, start, environ
        self.ranks: list[subprocess.Popen[bytes]] = []
        self.companions: list[subprocess.Popen[bytes]] = []
        self.output: deque[str] = deque(maxlen=OUTPUT_LINES)
        self.early: str | None = None  # a companion that ended while the ranks were running
        self.lost: dict[int, int] = {}  # index -> signal that ended it before the supervisor stopped anything
        self._replaced: dict[int, int] = {}  # index -> how often
        self._readers: list[threading.Thread] = []
        self._logs: list[tuple[subprocess.Popen[bytes], CommandLog]] = []

    def launch(self) -> None:
        """Start the companions, then the processes of the start method."""
        for command in self.start.companions:
            self.companions.append(self._launch(command))
        for command in self.start.commands:
            self.ranks.append(self._launch(command))

    def replace(self, index: int, node: str, job: str = "") -> None:
        """Start another process instead of one that has ended, on a node of this job or of another."""
        self.ranks[index].wait()
        self._replaced[index] = self._replaced.get(index, 0) + 1
        command = self.start.commands[index].on_node(node, job)
        number = {variables.REPLACES: str(self._replaced[index])}
        self.ranks[index] = self._launch(replace(command, environment={**command.environment, **number}))

    def kill(self, index: int) -> None:
        """End a process at once; what it started ends with it."""
        # A killed srun leaves its tasks behind; one that is told to end has them killed.
        self.ranks[index].send_signal(self.start.stop_signal if self.start.starter == "steps" else signal.SIGKILL)

    def _launch(self, command: Command) -> subprocess.Popen[bytes]:
        def prepare() -> None:
            parent_death.die_with_parent(self.start.stop_signal)

        environment = {**self.environ, **command.environment}
        process = subprocess.Popen(
            command.argv,
            env=environment,
            cwd=self.run.path,  # so that "python -m" finds nothing of the user's before the standard library
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in the terminal reaches saman alone
            preexec_fn=prepare,
        )
        if self.start.starter == "processes" and becomes_spare(environment):
            set_session_priority(PRIORITY, process.pid)  # until it gets a place
        self._logs.append((process, CommandLog(command.argv, process.pid)))
        assert process.stdout is not None
        reader = threading.Thread(target=self._keep_output, args=(process.stdout,), daemon=True)
        reader.start()
        self._readers.append(reader)
        return process

    def _keep_output(self, output: IO[bytes]) -> None:
        """Append what a start method prints to ``starter.log``, and keep its last lines in memory."""
        with contextlib.suppress(OSError, ValueError):
            for line in output:
                self.output.append(line.decode(errors="replace").rstrip())
                with contextlib.suppress(OSError), self.attempt.starter_log.open("ab") as file:
                    if file.tell() > STARTER_LOG_BYTES:
                        self.attempt.starter_log.replace(self.attempt.older_starter_log)
                    file.write(line)

    @property
    def running(self) -> bool:
        """Whether a process of the start method still runs."""
        statuses = [process.poll() for process in self.ranks]
        self._log_ends()
        return None in statuses

    @property
    def exit_statuses(self) -> list[int | None]:
        """The exit status of each process of the start method; negative for a signal."""
        return [process.returncode for process in self.ranks]

    def note_losses(self) -> None:
        """Remember processes that a signal has ended, and the first companion that ended before any rank."""
        for command, companion in zip(self.start.companions, self.companions, strict=True):
            ranks_running = all(process.poll() is None for process in self.ranks)
            if self.early is None and command.label and companion.poll() is not None and ranks_running:
                self.early = f"{command.label} ended with exit status {companion.returncode} before the ranks"
        for index, process in enumerate(self.ranks):
            if process.returncode is not None and process.returncode < 0:
                self.lost.setdefault(index, -process.returncode)

    def failed_besides(self, spared: Collection[int]) -> bool:
        """Whether a process of the start method failed, ``spared`` ones left out, or a companion ended early."""
        counted = (status for index, status in enumerate(self.exit_statuses) if index not in spared)
        return any(status not in (None, ExitCode.DONE, ExitCode.REQUEUE) for status in counted) or self.companion_ended

    @property
    def companion_ended(self) -> bool:
        """Whether a companion has ended."""
        return any(process.poll() is not None for process in self.companions)

    def stop(self, at_once: Callable[[], bool]) -> None:
        """End every process of the attempt: the stop signal first, SIGKILL after ``STOP_SECONDS`` or ``at_once``."""
        running = [process for process in self.ranks if process.poll() is None]
        if running:
            pids = [process.pid for process in running]
            _log.debug("%s: signal %d to pids %s", self.run.id, self.start.stop_signal, pids)
        for process in running:
            process.send_signal(self.start.stop_signal)
        deadline = time.monotonic() + STOP_SECONDS
        while any(process.poll() is None for process in running) and time.monotonic() < deadline:
            if at_once():
                break
            time.sleep(0.02)
        processes.kill_until_gone(self._remaining, GONE_SECONDS)
        for process in [*self.ranks, *self.companions]:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=1.0)
        for reader in self._readers:
            reader.join(timeout=0.5)
        self._log_ends()

    def _log_ends(self) -> None:
        for process, log in self._logs:
            log.end(process.returncode)

    def _remaining(self) -> dict[int, processes.ProcessInfo]:
        for process in [*self.ranks, *self.companions]:
            process.poll()  # reaps it
        return processes.list_attempt_processes(self.run.path, self.attempt.number)
