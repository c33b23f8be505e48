"""``python -m saman.launcher.rank RUN -- COMMAND``: what every start method starts once per process.

It works out which process it is, checks that it is where it was planned, opens the log, pins the cores, starts the
command, passes signals on, and records the end. Nothing the command started outlives it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from saman.configs.files import read_json
from saman.launcher.node.machine import allowed_cores, interface_address, visible_gpus
from saman.launcher.plan.placement import Placement, Process
from saman.launcher.rank.assignment import (
    MisplacedRank,
    chosen_cores,
    chosen_gpus,
    given,
    horovod_variables,
    kept_cores,
    planned,
    rank_variables,
)
from saman.runs.folder import Attempt, RunFolder
from saman.runs.ranks import processes
from saman.runs.ranks.heartbeats import ALIVE_SECONDS, Beat, Heartbeat, write_beat
from saman.runs.ranks.identity import ProcessIdentity, identify, node_name
from saman.runs.ranks.records import RankRecord, tail

GRACE_SECONDS = 4.0  # between a passed-on SIGTERM and SIGKILL
FAILURE_SECONDS = 1.0  # a failed process stays this long, so that peers that fail by themselves can say so
REQUEUE_SECONDS = 30.0  # a checkpointed one waits this long for its peers: a starter stops all at the first status ≠ 0
RENDEZVOUS_SECONDS = 60.0
_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_WATCHED = (signal.SIGCHLD, signal.SIGUSR1, *_STOPPING)


@dataclass
class _Child:
    """The program while it runs, and what has been asked of it."""

    pid: int
    status: int | None = None
    stopped: bool = False
    kill_at: float | None = None
    parent: int = field(default_factory=os.getppid)


def main(arguments: list[str]) -> int:
    """Run the command as one process of the run; returns the status to exit with."""
    if "--" not in arguments[1:2] or len(arguments) < 3:
        print("usage: python -m saman.launcher.rank RUN -- COMMAND [ARGUMENT ...]", file=sys.stderr)
        return 2
    parent = os.getppid()
    processes.die_with_parent(signal.SIGTERM)
    processes.adopt_orphans()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    run = RunFolder(Path(arguments[0]).absolute())
    attempt = _attempt(run)
    try:
        return _run(run, attempt, arguments[2:], before, parent)
    except OSError as error:
        print(f"{run.path}: {error.strerror or error}: {error.filename or ''}", file=sys.stderr)
        return 3


def _attempt(run: RunFolder) -> Attempt:
    number = os.environ.get("SAMAN_ATTEMPT")
    if number:
        return run.attempt(int(number))
    attempts = run.attempts()
    return attempts[-1] if attempts else run.attempt(1)


def _run(run: RunFolder, attempt: Attempt, command: list[str], mask: Any, parent: int) -> int:
    for folder in ("ranks", "telemetry"):
        (attempt.path / folder).mkdir(parents=True, exist_ok=True)
    value = read_json(attempt.placement)
    placement = Placement.from_json(value) if value else None
    node = node_name(os.environ)
    try:
        identity = identify(os.environ, os.environ.get("SAMAN_STARTER"))
        allowed = kept_cores(allowed_cores(), os.environ.get("SAMAN_CORES"))
        process = planned(placement, identity, node, len(allowed))
        gpus = _gpus(run, placement, process)
    except (MisplacedRank, ValueError) as error:
        rank = int(os.environ.get("SAMAN_PROCESS", "0"))
        run.append(
            "rank_failed", f"rank {rank}", attempt.number, rank=rank, node=node, failure="misplaced", message=str(error)
        )
        print(error, file=sys.stderr)
        return 1
    cores = chosen_cores(allowed, process.cores)
    os.sched_setaffinity(0, cores)
    return _Wrapper(run, attempt, process, placement, identity, node, cores, gpus, mask, parent).run_command(command)


def _gpus(run: RunFolder, placement: Placement | None, process: Process) -> tuple[str, ...] | None:
    """GPUs to show to the program; ``None`` to leave it what it sees.

    Scripts are left alone: those that Horovod's documentation teaches choose by local rank among all of the node's.
    """
    if placement is None or run.is_script:
        return None
    return chosen_gpus(visible_gpus(os.environ), process.gpus) if process.gpus else ()


@dataclass
class _Wrapper:
    """One process's life around its program."""

    run: RunFolder
    attempt: Attempt
    process: Process
    placement: Placement | None
    identity: ProcessIdentity
    node: str
    cores: tuple[int, ...]
    gpus: tuple[str, ...] | None
    mask: Any
    parent: int

    @property
    def rank(self) -> int:
        return self.process.first_rank

    @property
    def who(self) -> str:
        return f"rank {self.rank}"

    def run_command(self, command: list[str]) -> int:
        """Start the command, wait, record; returns the status to exit with."""
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
        log, process = self.attempt.log(self.rank), str(self.process.index)
        with log.open("ab", buffering=0) as output:
            try:
                child = self._start(command, self._environment(), output)
            except OSError as error:
                return self._not_started(record, command, error)
            # A start method may kill this wrapper without warning: the guard then ends what it has started. It goes
            # with the program's other descendants when all is well; what it watches is never closed by hand.
            processes.guard(lambda: processes.members(self.run.path, self.attempt.number, SAMAN_PROCESS=process))
            seen = processes.see(child.pid)
            record = record.ending(pid=child.pid, pid_started=seen.started if seen else None, started=time.time())
            self._started(record)
            self._watch(child, log)
        return self._ended(record, child, log)

    def _environment(self) -> dict[str, str]:
        environment = dict(os.environ)
        own = rank_variables(self.process, self.placement, self.identity, len(self.cores))
        # The cluster's network for TF_CONFIG too: a node's name may resolve to the slow one.
        interface = os.environ.get("GLOO_SOCKET_IFNAME", "").split(",")[0]
        if "SAMAN_ADDRESS" not in own and (address := interface_address(interface)) is not None:
            own["SAMAN_ADDRESS"] = address
        if self.gpus is not None:
            own["CUDA_VISIBLE_DEVICES"] = ",".join(self.gpus) or "-1"
        if self.run.is_script:
            environment.pop("SAMAN_HEARTBEAT", None)
        else:
            own["SAMAN_HEARTBEAT"] = str(self.attempt.heartbeat(self.rank))
            own["PYTHONSAFEPATH"] = "1"  # a user's folder comes last on sys.path, so never first by "-m"
        rendezvous = os.environ.get("SAMAN_RENDEZVOUS")
        if rendezvous and self.placement is not None:
            host, port = _wait_for_rendezvous(Path(rendezvous))
            own |= horovod_variables(self.process, self.placement, host, port)
        own["SAMAN_RUN"], own["SAMAN_ATTEMPT"] = str(self.run.path), str(self.attempt.number)
        kept = given(os.environ)
        return environment | {name: value for name, value in own.items() if name not in kept}

    @property
    def checkpoints_on_sigterm(self) -> bool:
        """Whether SIGTERM asks for a checkpoint. Slurm sends it to every process of a job when it takes nodes away and
        then waits (KillWait); a supervisor that ends an srun has its tasks killed at once, so nothing hangs on it.
        Other start methods say so where they do not end their ranks by SIGTERM themselves.
        """
        asked = os.environ.get("SAMAN_STARTER") == "srun" or os.environ.get("SAMAN_SIGTERM") == "checkpoint"
        return asked and not self.run.is_script

    def _start(self, command: list[str], environment: dict[str, str], output: Any) -> _Child:
        me, mask, ignored = os.getpid(), self.mask, self.checkpoints_on_sigterm

        def prepare() -> None:
            os.setpgid(0, 0)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            if ignored:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            processes.die_with_parent(signal.SIGKILL)
            if os.getppid() != me:
                os._exit(1)

        child = subprocess.Popen(
            command,
            cwd=environment.get("SAMAN_DIRECTORY"),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            close_fds=False,  # MPICH and Intel MPI reach their process manager by an inherited descriptor (PMI_FD)
            preexec_fn=prepare,
        )
        child.returncode = 0  # reaped here, with every adopted orphan, and not by Popen
        return _Child(child.pid, parent=self.parent)

    def _not_started(self, record: RankRecord, command: list[str], error: OSError) -> int:
        message = f"{command[0]!r} cannot be started: {error.strerror}"
        if error.filename not in (None, command[0]):
            message += f": {error.filename}"
        self._event("rank_failed", failure="user_error", message=message, rank=self.rank, node=self.node)
        now, code = time.time(), 127 if isinstance(error, FileNotFoundError) else 126
        record = record.ending(started=now, ended=now, code=code, last_lines=(message,))
        record.write(self.attempt.rank_record(self.rank))
        self._event("rank_exited", rank=self.rank, node=self.node, code=code, last_lines=[message])
        return code

    def _started(self, record: RankRecord) -> None:
        record.write(self.attempt.rank_record(self.rank))
        if not self.run.is_script and not self.attempt.heartbeat(self.rank).exists():
            now = time.time()  # until the program beats by itself, it is starting
            write_beat(self.attempt.heartbeat(self.rank), Beat("start", pid=record.pid or 0, time=now, alive=now))
        self._event("rank_started", rank=self.rank, node=self.node, cores=list(self.cores), gpus=list(record.gpus))
        wanted = len(self.process.cores)
        if len(self.cores) < wanted:
            text = f"{self.who} may use {len(self.cores)} cores on {self.node}, {wanted} were planned"
            self._event("notice", text=text, rank=self.rank)

    def _event(self, kind: str, **facts: Any) -> None:
        self.run.append(kind, self.who, self.attempt.number, **facts)

    # ---- while it runs -----------------------------------------------------------------------------------

    def _watch(self, child: _Child, log: Path) -> None:
        """Until the program has ended: pass signals on, show that this process lives."""
        motion = _Motion(child.pid, log, Heartbeat(self.attempt.heartbeat(self.rank))) if self.run.is_script else None
        shown = looked = time.monotonic()
        while True:
            caught = signal.sigtimedwait(_WATCHED, 1.0)
            if caught is not None and caught.si_signo != signal.SIGCHLD:
                self._pass_on(child, caught.si_signo)
            if _reap(child):
                break
            now = time.monotonic()
            if child.kill_at is not None and now >= child.kill_at:
                _signal_group(child.pid, signal.SIGKILL)
            if motion and now - looked >= 1.0:
                looked = now
                motion.look()
            if now - shown >= ALIVE_SECONDS:
                shown = now
                with contextlib.suppress(OSError):
                    os.utime(self.attempt.rank_record(self.rank))
        if motion:
            motion.heartbeat.close()

    def _pass_on(self, child: _Child, number: int) -> None:
        orphaned = os.getppid() != child.parent
        gently = number == signal.SIGTERM and self.checkpoints_on_sigterm and not orphaned
        if gently or (number == signal.SIGUSR1 and not self.run.is_script):
            if not self.run.stop_request.exists():
                self.run.request_stop(signal.Signals(number).name, self.who)
            return
        if number == signal.SIGUSR1:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGUSR1)
            return
        child.stopped = True
        _signal_group(child.pid, signal.SIGKILL if orphaned else number)
        if child.kill_at is None:
            child.kill_at = time.monotonic() + GRACE_SECONDS

    # ---- afterwards --------------------------------------------------------------------------------------

    def _ended(self, record: RankRecord, child: _Child, log: Path) -> int:
        assert child.status is not None
        _signal_group(child.pid, signal.SIGKILL)
        processes.kill_until_gone(_reaped_descendants, seconds=2.0)
        code = os.waitstatus_to_exitcode(child.status)
        how = {"code": code} if code >= 0 else {"signal": -code}
        lines = tail(log) if code not in (0, 85) else ()
        record = record.ending(ended=time.time(), stopped=child.stopped, last_lines=lines, **how)
        with contextlib.suppress(OSError):  # a full disk is said by the supervisor
            record.write(self.attempt.rank_record(self.rank))
        facts = {"rank": self.rank, "node": self.node, "stopped": child.stopped, **how}
        with contextlib.suppress(OSError):
            self._event("rank_exited", **facts, last_lines=list(lines))
        if code == 85:
            self._wait_for_peers(REQUEUE_SECONDS)
        elif record.failed and not child.stopped:
            self._wait_for_peers(FAILURE_SECONDS)
        return code if code >= 0 else 128 - code

    def _wait_for_peers(self, seconds: float) -> None:
        """Until every process has recorded its end, the time is over, or this one is told to stop."""
        deadline = time.monotonic() + seconds
        others = [one.first_rank for one in self.placement.processes] if self.placement else []
        while others and time.monotonic() < deadline:
            records = (RankRecord.read(self.attempt.rank_record(rank)) for rank in others)
            if all(record is not None and record.has_ended for record in records):
                return
            if signal.sigtimedwait(_STOPPING, 0.1) is not None:
                return


class _Motion:
    """Whether a script that sends no heartbeats moves: by its processor time and its log."""

    def __init__(self, pid: int, log: Path, heartbeat: Heartbeat) -> None:
        self.pid, self.log, self.heartbeat = pid, log, heartbeat
        self._ticks, self._size, self._time = 0, 0, time.monotonic()
        heartbeat.beat("script")

    def look(self) -> None:
        """Beat if the log grew, or a tenth of a core was used (an idle Horovod uses a few hundredths)."""
        seen = processes.see(self.pid)
        if seen is None:
            return
        size, now = self.log.stat().st_size, time.monotonic()
        seconds_used = (seen.cpu_ticks - self._ticks) / os.sysconf("SC_CLK_TCK")
        if size != self._size or seconds_used > 0.1 * (now - self._time):
            self.heartbeat.beat("script")
        self.heartbeat.mark(seen.state)
        self._ticks, self._size, self._time = seen.cpu_ticks, size, now


def _reap(child: _Child) -> bool:
    """Collect every ended child and adopted orphan; whether the program itself has ended."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return child.status is not None
        if pid == 0:
            return child.status is not None
        if pid == child.pid:
            child.status = status


def _reaped_descendants() -> dict[int, processes.ProcessInfo]:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    return processes.descendants([os.getpid()])


def _signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _wait_for_rendezvous(file: Path) -> tuple[str, int]:
    deadline = time.monotonic() + RENDEZVOUS_SECONDS
    while time.monotonic() < deadline:
        value = read_json(file)
        if isinstance(value, dict) and "port" in value:
            return str(value["host"]), int(value["port"])
        time.sleep(0.02)
    raise TimeoutError(f"Horovod's rendezvous did not say its port within {RENDEZVOUS_SECONDS:.0f} s: {file}")
