"""The wrapper that every start method starts once per process: ``python -m saman.launcher.rank RUN -- COMMAND``.

It identifies its process, checks it against the placement, pins the cores, starts the command with its output in a
log, forwards signals and records the exit. Nothing that the command started outlives it.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saman.configs.errors import EnvironmentLack, ExitCode
from saman.launcher.node.machine import allowed_cores, visible_gpus
from saman.launcher.plan.placement import Process, Seat
from saman.launcher.rank.assignment import MisplacedRank, assign_process, select_cores, select_gpus, usable_cores
from saman.launcher.rank.child import Child, start_child
from saman.launcher.rank.environment import program_environment
from saman.launcher.rank.gatherer import NodeGatherer
from saman.launcher.rank.log_rotation import LogRotation
from saman.launcher.rank.motion import ScriptMotion
from saman.launcher.rank.near import paired
from saman.launcher.rank.recorder import RankRecorder
from saman.launcher.rank.stop_forwarding import StopForwarding, stop_signal
from saman.launcher.supervision import processes
from saman.runs import variables
from saman.runs.folder import Attempt, RunFolder
from saman.runs.gathering.gathering import GatheredNode, round_seconds
from saman.runs.gathering.node_folder import make_node_folder, remove_stale_folders
from saman.runs.ranks import parent_death
from saman.runs.ranks.board import BoardReader
from saman.runs.ranks.heartbeats import Heartbeat
from saman.runs.ranks.identity import ProcessIdentity, identify, node_name
from saman.runs.ranks.rank_events import FailureKind
from saman.runs.ranks.records import RankRecord
from saman.runs.tf_cluster.join import join_cluster

GRACE_SECONDS = 4.0  # between a forwarded SIGTERM and SIGKILL
FAILURE_SECONDS = 1.0  # a failed process stays this long, so that peers can report failures of their own
ECHO_SECONDS = 0.5  # Slurm signals every process of a step: the keeper then hands on what the wrapper has already
REQUEUE_SECONDS = 30.0  # a checkpointed process waits for its peers: a starter stops all at the first status ≠ 0
ON_THEIR_OWN = ("processes", "steps")  # start methods with a start command for each process
BY_SRUN = ("srun", "steps")  # start methods whose processes are Slurm's tasks
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
    except EnvironmentLack as error:
        print(error, file=sys.stderr)
        return ExitCode.ENVIRONMENT
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
    node = node_name(os.environ)
    try:
        identity = identify(os.environ, os.environ.get(variables.STARTER))
        seat = Seat.read(attempt.placement, identity.process)
        allowed = usable_cores(allowed_cores(), os.environ.get(variables.CORES))
        process = assign_process(seat, identity, node, len(allowed))
        gpus = _gpus(run, seat, process)
    except (MisplacedRank, ValueError) as error:
        _report_misplaced(run, attempt, node, error)
        return ExitCode.RUN_FAILED
    near = paired(seat, allowed, os.environ)
    cores = near.cores if near is not None else select_cores(allowed, process.cores)
    os.sched_setaffinity(0, cores)
    wrapper = _Wrapper(
        run=run,
        attempt=attempt,
        own=_own_folder(run, attempt, seat),
        process=process,
        seat=seat,
        identity=identity,
        node=node,
        cores=cores,
        gpus=gpus,
        adapter=near.adapter if near is not None else None,
        mask=mask,
        parent=parent,
    )
    return wrapper.run_command(command)


def _own_folder(run: RunFolder, attempt: Attempt, seat: Seat | None) -> Attempt:
    """The folder in which the processes of this node write: its own, else the attempt's."""
    own = make_node_folder(run, attempt.number, seat.process.node) if seat is not None else None
    if own is None:
        attempt.make_folders()
    return own or attempt


def _log_limit() -> int | None:
    text = os.environ.get(variables.LOG_LIMIT, "")
    return int(text) if text.isdigit() else None


def _report_misplaced(run: RunFolder, attempt: Attempt, node: str, error: Exception) -> None:
    rank, kind = int(os.environ.get(variables.PROCESS, "0")), FailureKind.MISPLACED.value
    facts = {"rank": rank, "node": node, "failure": kind, "message": str(error)}
    run.append("rank_failed", f"rank {rank}", attempt.number, **facts)
    print(error, file=sys.stderr)


def _gpus(run: RunFolder, seat: Seat | None, process: Process) -> tuple[str, ...] | None:
    """GPUs to make visible to the program; ``None`` to leave its variables alone.

    Scripts are left alone: those that follow Horovod's documentation pick a GPU of the node by local rank.
    """
    if seat is None or run.is_script:
        return None
    return select_gpus(visible_gpus(os.environ), process.gpus) if process.gpus else ()


@dataclass
class _Wrapper:
    """A process of the run around its program."""

    run: RunFolder
    attempt: Attempt
    own: Attempt
    process: Process
    seat: Seat | None
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
        log, process = self.own.log(self.rank), str(self.process.index)
        environment = program_environment(
            self.run,
            self.attempt,
            self.own,
            self.process,
            seat=self.seat,
            identity=self.identity,
            cores=len(self.cores),
            gpus=self.gpus,
            command=command,
            adapter=self.adapter,
        )
        joined = None
        if (roles := os.environ.get(variables.TF_ROLES)) is not None:
            joined = join_cluster(self.run, self.attempt.number, self.identity, roles, environment)
            environment |= joined.environment
        with log.open("ab", buffering=0) as output:
            try:
                child = start_child(command, environment, output, self.mask, self.parent, self.checkpoints_on_sigterm)
            except OSError as error:
                code = recorder.not_started(command, error)
                self._flush(self._gatherer())
                return code
            # A start method may kill this wrapper without warning: the guard then ends what it has started. It ends
            # with the program's other descendants, and its pipe is never closed by hand.
            mark = {variables.PROCESS: process}
            if (number := os.environ.get(variables.REPLACES)) is not None:
                mark[variables.REPLACES] = number  # the guard must spare the process that takes this slot
            processes.kill_after_own_death(
                lambda: processes.list_attempt_processes(self.run.path, self.attempt.number, **mark)
            )
            recorder.started(child.pid, wanted_cores=len(self.process.cores))
            gatherer = self._gatherer()  # a thread: after the guard was forked
            self._watch(child, log, gatherer)
        return self._finish(child, recorder, log, gatherer)

    def _gatherer(self) -> NodeGatherer | None:
        """Begin to gather the ranks of this node, or to wait for the duty; ``None`` if they write to the run folder."""
        if self.seat is None or self.own == self.attempt:
            return None
        node = GatheredNode(
            own=self.own,
            shared=self.attempt,
            index=self.seat.node_index,
            name=self.process.node,
            processes=len(self.seat.here),
            log_limit=_log_limit(),
        )
        if self.process.local_index == 0:
            remove_stale_folders(time.time())
        return NodeGatherer(node, round_seconds(self.seat.nodes))

    def _flush(self, gatherer: NodeGatherer | None) -> None:
        """Have what this process wrote gathered, before the start method learns of its end."""
        if gatherer is not None:
            gatherer.flush()

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
        return RankRecorder(self.run, self.attempt, self.own, record)

    def _finish(self, child: Child, recorder: RankRecorder, log: Path, gatherer: NodeGatherer | None) -> int:
        """Kill descendants, record the exit, wait for peers to record theirs; returns the exit status."""
        assert child.status is not None
        child.kill_descendants()
        status = os.waitstatus_to_exitcode(child.status)
        failed = recorder.exited(status, child.stopped, log)
        self._flush(gatherer)
        if status == ExitCode.REQUEUE and os.environ.get(variables.STARTER) not in ON_THEIR_OWN:
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
        asked = os.environ.get(variables.STARTER) in BY_SRUN or os.environ.get(variables.SIGTERM) == "checkpoint"
        return asked and not self.run.is_script

    # ---- while the program runs --------------------------------------------------------------------------

    def _watch(self, child: Child, log: Path, gatherer: NodeGatherer | None) -> None:
        """Forward signals and show signs of life until the program has ended."""
        heartbeat = self.own.heartbeat(self.rank)
        motion = ScriptMotion(child.pid, log, Heartbeat(heartbeat)) if self.run.is_script else None
        stopping = self._stop_forwarding(child) if self.run.is_script else None
        gathered = self.own != self.attempt  # then the log of the node is rotated, and this file emptied
        rotation = LogRotation(log, self.own.older_log(self.rank), None if gathered else _log_limit())
        looked = stop_looked = time.monotonic()
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
            if gatherer is not None and gatherer.problem is not None and child.kill_at is None:
                print(f"{self.run.path}: {gatherer.problem.strerror or gatherer.problem}", file=sys.stderr, flush=True)
                child.signal_group(signal.SIGTERM)
                child.kill_at = now + GRACE_SECONDS
        rotation.close()
        if motion:
            motion.close()

    def _stop_forwarding(self, child: Child) -> StopForwarding:
        number = stop_signal(os.environ)
        return StopForwarding(
            run=self.run,
            attempt=self.attempt,
            own=self.own,
            process=self.process,
            here=self.seat.here if self.seat else (),
            board=BoardReader(self.attempt.board, self.seat.nodes if self.seat else 1),
            program=child.pid,
            number=number,
        )

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
        if number == signal.SIGTERM and os.environ.get(variables.STARTER) in BY_SRUN and not orphaned:
            return  # Slurm sends it to the program too, and waits (KillWait) before it kills
        child.signal_group(signal.SIGKILL if orphaned else number)
        if child.kill_at is None:
            child.kill_at = time.monotonic() + GRACE_SECONDS

    def _wait_for_peers(self, seconds: float) -> None:
        """Wait until every process has recorded its exit, the time is over, or a request to stop arrives."""
        if self.seat is None:
            return
        deadline, board = time.monotonic() + seconds, BoardReader(self.attempt.board, self.seat.nodes)
        while time.monotonic() < deadline:
            if self._neighbours_have_ended() and (self.seat.nodes == 1 or board.read().all_ended):
                return
            if processes.await_signal(_STOPPING, 0.1) is not None:
                return

    def _neighbours_have_ended(self) -> bool:
        """Whether every process of this node has recorded its exit; its folder is removed soon after."""
        assert self.seat is not None
        records = (RankRecord.read(self.own.rank_record(process.first_rank)) for process in self.seat.here)
        return not self.own.rank_folder.is_dir() or all(record is not None and record.has_ended for record in records)
