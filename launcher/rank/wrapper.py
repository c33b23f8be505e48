"""The wrapper that every start method starts once per process: ``python -m saman.launcher.rank RUN -- COMMAND``.

It identifies its process, checks it against the placement, pins the cores, starts the command with its output in a
log, forwards signals and records the exit. Nothing that the command started outlives it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saman.configs.errors import ExitCode
from saman.launcher.node.machine import allowed_cores, visible_gpus
from saman.launcher.plan.placement import Placement, Process
from saman.launcher.rank.assignment import MisplacedRank, assign_process, select_cores, select_gpus, usable_cores
from saman.launcher.rank.child import Child, start_child
from saman.launcher.rank.environment import program_environment
from saman.launcher.rank.log_rotation import LogRotation
from saman.launcher.rank.motion import ScriptMotion
from saman.launcher.rank.near import paired
from saman.launcher.rank.recorder import RankRecorder
from saman.launcher.rank.stop_forwarding import StopForwarding, stop_signal
from saman.launcher.supervision import processes
from saman.runs import variables
from saman.runs.folder import Attempt, RunFolder
from saman.runs.ranks import parent_death
from saman.runs.ranks.heartbeats import ALIVE_SECONDS, Heartbeat
from saman.runs.ranks.identity import ProcessIdentity, identify, node_name
from saman.runs.ranks.rank_events import FailureKind
from saman.runs.ranks.records import RankRecord

GRACE_SECONDS = 4.0  # between a forwarded SIGTERM and SIGKILL
FAILURE_SECONDS = 1.0  # a failed process stays this long, so that peers can report failures of their own
ECHO_SECONDS = 0.5  # Slurm signals every process of a step: the keeper then hands on what the wrapper has already
REQUEUE_SECONDS = 30.0  # a checkpointed process waits for its peers: a starter stops all at the first status ≠ 0
_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_WATCHED = (signal.SIGCHLD, signal.SIGUSR1, *_STOPPING)


def main(arguments: list[str]) -> int:
    """Run the command as a process of the run; returns the exit status."""
    if "--" not in arguments[1:2] or len(arguments) < 3:
        print("usage: python -m saman.launcher.rank RUN -- COMMAND [ARGUMENT ...]", file=sys.stderr)
        return ExitCode.BAD_REQUEST
    parent = os.getppid()
    parent_death.die_with_parent(signal.SIGTERM)
    parent_death.adopt_orphans()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    run = RunFolder(Path(arguments[0]).absolute())
    attempt = _current_attempt(run)
    try:
        return _run(run, attempt, arguments[2:], before, parent)
    except OSError as error:
        print(f"{run.path}: {error.strerror or error}: {error.filename or ''}", file=sys.stderr)
        return ExitCode.ENVIRONMENT


def _current_attempt(run: RunFolder) -> Attempt:
    number = os.environ.get(variables.ATTEMPT)
    if number:
        return run.attempt(int(number))
    attempts = run.attempts()
    return attempts[-1] if attempts else run.attempt(1)


def _run(run: RunFolder, attempt: Attempt, command: list[str], mask: Any, parent: int) -> int:
    attempt.make_folders()
    placement = Placement.read(attempt.placement)
    node = node_name(os.environ)
    try:
        identity = identify(os.environ, os.environ.get(variables.STARTER))
        allowed = usable_cores(allowed_cores(), os.environ.get(variables.CORES))
        process = assign_process(placement, identity, node, len(allowed))
        gpus = _gpus(run, placement, process)
    except (MisplacedRank, ValueError) as error:
        _report_misplaced(run, attempt, node, error)
        return ExitCode.RUN_FAILED
    near = paired(placement, process, allowed, os.environ)
    cores = near.cores if near is not None else select_cores(allowed, process.cores)
    os.sched_setaffinity(0, cores)
    wrapper = _Wrapper(
        run=run,
        attempt=attempt,
        process=process,
        placement=placement,
        identity=identity,
        node=node,
        cores=cores,
        gpus=gpus,
        adapter=near.adapter if near is not None else None,
        mask=mask,
        parent=parent,
    )
    return wrapper.run_command(command)


def _log_limit() -> int | None:
    text = os.environ.get(variables.LOG_LIMIT, "")
    return int(text) if text.isdigit() else None


def _report_misplaced(run: RunFolder, attempt: Attempt, node: str, error: Exception) -> None:
    rank, kind = int(os.environ.get(variables.PROCESS, "0")), FailureKind.MISPLACED.value
    facts = {"rank": rank, "node": node, "failure": kind, "message": str(error)}
    run.append("rank_failed", f"rank {rank}", attempt.number, **facts)
    print(error, file=sys.stderr)


def _gpus(run: RunFolder, placement: Placement | None, process: Process) -> tuple[str, ...] | None:
    """GPUs to make visible to the program; ``None`` to leave its variables alone.

    Scripts are left alone: those that follow Horovod's documentation pick a GPU of the node by local rank.
    """
    if placement is None or run.is_script:
        return None
    return select_gpus(visible_gpus(os.environ), process.gpus) if process.gpus else ()


@dataclass
class _Wrapper:
    """A process of the run around its program."""

    run: RunFolder
    attempt: Attempt
    process: Process
    placement: Placement | None
    identity: ProcessIdentity
    node: str
    cores: tuple[int, ...]
    gpus: tuple[str, ...] | None
    adapter: str | None
    mask: Any
    parent: int

    @property
    def rank(self) -> int:
        """The first rank of the process."""
        return self.process.first_rank

    @property
    def who(self) -> str:
        """The name under which the process writes events."""
        return f"rank {self.rank}"

    def run_command(self, command: list[str]) -> int:
        """Start the command, wait for it, record its exit; returns the exit status."""
        recorder = self._recorder()
        log, process = self.attempt.log(self.rank), str(self.process.index)
        environment = program_environment(
            self.run,
            self.attempt,
            self.process,
            placement=self.placement,
            identity=self.identity,
            cores=len(self.cores),
            gpus=self.gpus,
            command=command,
            adapter=self.adapter,
        )
        with log.open("ab", buffering=0) as output:
            try:
                child = start_child(command, environment, output, self.mask, self.parent, self.checkpoints_on_sigterm)
            except OSError as error:
                return recorder.not_started(command, error)
            # A start method may kill this wrapper without warning: the guard then ends what it has started. It ends
            # with the program's other descendants, and its pipe is never closed by hand.
            mark = {variables.PROCESS: process}
            processes.kill_after_own_death(
                lambda: processes.list_attempt_processes(self.run.path, self.attempt.number, **mark)
            )
            recorder.started(child.pid, wanted_cores=len(self.process.cores))
            self._watch(child, log)
        return self._finish(child, recorder, log)

    def _recorder(self) -> RankRecorder:
        record = RankRecord(
            process=self.process.index,
            first_rank=self.rank,
            ranks_here=self.process.ranks_here,
            node=self.node,
            host=socket.gethostname(),
            cores=self.cores,
            gpus=tuple(visible_gpus(os.environ)) if self.gpus is None else self.gpus,
            wrapper_pid=os.getpid(),
        )
        return RankRecorder(self.run, self.attempt, record)

    def _finish(self, child: Child, recorder: RankRecorder, log: Path) -> int:
        """Kill descendants, record the exit, wait for peers to record theirs; returns the exit status."""
        assert child.status is not None
        child.kill_descendants()
        status = os.waitstatus_to_exitcode(child.status)
        failed = recorder.exited(status, child.stopped, log)
        if status == ExitCode.REQUEUE:
            self._wait_for_peers(REQUEUE_SECONDS)
        elif failed and not child.stopped:
            self._wait_for_peers(FAILURE_SECONDS)
        return status if status >= 0 else 128 - status

    @property
    def checkpoints_on_sigterm(self) -> bool:
        """Whether SIGTERM asks for a checkpoint.

        Slurm sends SIGTERM to every process of a job when it takes the nodes away, and waits (KillWait) before it
        kills. A supervisor that ends an srun has its tasks killed at once, so nothing is delayed. Other start methods
        set SAMAN_SIGTERM if they do not use SIGTERM to end their ranks.
        """
        asked = os.environ.get(variables.STARTER) == "srun" or os.environ.get(variables.SIGTERM) == "checkpoint"
        return asked and not self.run.is_script

    # ---- while the program runs --------------------------------------------------------------------------

    def _watch(self, child: Child, log: Path) -> None:
        """Forward signals and show signs of life until the program has ended."""
        heartbeat = self.attempt.heartbeat(self.rank)
        motion = ScriptMotion(child.pid, log, Heartbeat(heartbeat)) if self.run.is_script else None
        stopping = self._stop_forwarding(child) if self.run.is_script else None
        rotation = LogRotation(log, self.attempt.older_log(self.rank), _log_limit())
        touched = looked = stop_looked = time.monotonic()
        received: dict[int, float] = {}
        while True:
            caught = processes.await_signal(_WATCHED, 1.0)
            if caught is not None and caught != signal.SIGCHLD:
                echo = time.monotonic() - received.get(caught, -1.0) < ECHO_SECONDS
                if not echo or os.getppid() != child.parent:
                    self._forward(child, caught, stopping)
                received[caught] = time.monotonic()
            if child.reap():
                break
            now = time.monotonic()
            if child.kill_at is not None and now >= child.kill_at:
                child.signal_group(signal.SIGKILL)
            if motion and now - looked >= 1.0:
                looked = now
                motion.observe()
            if stopping and now - stop_looked >= 1.0:
                stop_looked = now
                stopping.look()
            rotation.look()
            if now - touched >= ALIVE_SECONDS:
                touched = now
                with contextlib.suppress(OSError):
                    os.utime(self.attempt.rank_record(self.rank))
        rotation.close()
        if motion:
            motion.close()

    def _stop_forwarding(self, child: Child) -> StopForwarding:
        number = stop_signal(os.environ)
        return StopForwarding(self.run, self.attempt, self.process, self.placement, child.pid, number)

    def _forward(self, child: Child, number: int, stopping: StopForwarding | None) -> None:
        orphaned = os.getppid() != child.parent
        gently = number == signal.SIGTERM and self.checkpoints_on_sigterm and not orphaned
        if gently or (number == signal.SIGUSR1 and not self.run.is_script):
            if not self.run.stop_request.exists():
                self.run.request_stop(signal.Signals(number).name, self.who)
            return
        if number == signal.SIGUSR1 and stopping is not None:
            stopping.request()
            stopping.look()
            return
        child.stopped = True
        if number == signal.SIGTERM and os.environ.get(variables.STARTER) == "srun" and not orphaned:
            return  # Slurm sends it to the program too, and waits (KillWait) before it kills
        child.signal_group(signal.SIGKILL if orphaned else number)
        if child.kill_at is None:
            child.kill_at = time.monotonic() + GRACE_SECONDS

    def _wait_for_peers(self, seconds: float) -> None:
        """Wait until every process has recorded its exit, the time is over, or a request to stop arrives."""
        deadline = time.monotonic() + seconds
        others = [process.first_rank for process in self.placement.processes] if self.placement else []
        while others and time.monotonic() < deadline:
            records = (RankRecord.read(self.attempt.rank_record(rank)) for rank in others)
            if all(record is not None and record.has_ended for record in records):
                return
            if processes.await_signal(_STOPPING, 0.1) is not None:
                return
