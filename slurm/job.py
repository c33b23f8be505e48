"""``python -m saman.slurm.job RUN``: one start of a run inside its Slurm job, from whether to begin to the exit code.

Exit codes: 0 done (or not needed), 1 failed, 2 and 3 never began, 130 cancelled, 85 wants to be requeued.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType

from saman.configs.cluster import Cluster
from saman.configs.errors import EnvironmentLack, ExitCode, UserError
from saman.configs.experiment import Experiment
from saman.configs.files import write_json, write_whole
from saman.configs.records import State
from saman.configs.script import Script
from saman.launcher.environment import forwarded
from saman.launcher.heartbeat import read_beat
from saman.launcher.local import Options, gather_facts, make_plan
from saman.launcher.placement import Placement
from saman.launcher.provenance import provenance
from saman.launcher.rank_record import RankRecord
from saman.launcher.run_folder import Attempt, RunFolder
from saman.launcher.starters.start import Facts
from saman.launcher.supervise import Outcome, Silent, Watching, alone, supervise
from saman.slurm import client, life
from saman.slurm.allocation import Allocation, allocation, answers
from saman.slurm.container import contained
from saman.slurm.life import Begin, Cause
from saman.slurm.script import environment_of
from saman.slurm.shield import shielded
from saman.slurm.submit import cluster_of

LOCK_SECONDS = 150.0  # a lock that a dead node held is given up by the file server within this
QUEUED_SECONDS = 5.0  # until the submitter has written the job's id
CAUSE_SECONDS = 4.0  # accounting needs a second or two to say why a job is ended
WHO = "job"


class _Printed(Silent):
    """What a person reads in the job's log."""

    def say(self, text: str) -> None:
        """One line, at once."""
        _say(text)


@dataclass
class _Asked:
    """The signals that reached this process; handlers only note them."""

    signals: list[int] = field(default_factory=list)

    def note(self, number: int, _: FrameType | None) -> None:
        """Remember a signal."""
        self.signals.append(number)

    def listen(self) -> None:
        """From now on note instead of dying."""
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            signal.signal(number, self.note)


def main(arguments: list[str]) -> int:
    """Run one start; returns the exit code of the job."""
    if len(arguments) != 1:
        print("usage: python -m saman.slurm.job RUN", file=sys.stderr)
        return ExitCode.BAD_REQUEST
    asked = _Asked()
    asked.listen()
    run = RunFolder(Path(arguments[0]).absolute())
    try:
        return _Start(RunFolder.open(run.path), asked).whole()
    except UserError as error:
        _say(str(error))
        if not run.state.ended:
            run.append("failed", WHO, message=str(error), exit_code=int(error.exit_code))
        return error.exit_code


class _Start:
    """One start of a run."""

    def __init__(self, run: RunFolder, asked: _Asked) -> None:
        self.run, self.asked = run, asked
        self.cluster: Cluster = cluster_of(run)
        self.spec: Experiment | Script = run.spec()
        resources = self.spec.resources
        self.here: Allocation = allocation(os.environ, resources.gpus_per_rank * resources.ranks_per_node)
        self.outcome: Outcome | None = None
        self.error: BaseException | None = None

    def whole(self) -> int:
        """Decide, begin, see it through, decide again."""
        self._know_the_job()
        if life.was_lost(self.run.events()):
            self._account_for_loss()
        decision = life.on_start(
            self.run.events(), len(self.run.attempts()), self.cluster.requeue.attempts, self.here.nodes
        )
        if decision.begin is Begin.NOT_NEEDED:
            _say(f"not needed: {decision.reason}")
            return ExitCode.DONE
        if decision.begin is Begin.USED_UP:
            self.run.append("failed", WHO, message=decision.reason, exit_code=int(ExitCode.RUN_FAILED))
            return ExitCode.RUN_FAILED
        if decision.begin is Begin.ELSEWHERE:
            return self._elsewhere(decision)
        self._attempt_in_a_thread()
        if self.error is not None:
            raise self.error
        assert self.outcome is not None
        return self._ended(self.outcome)

    def _know_the_job(self) -> None:
        """Wait for the submitter's record of this job; a script submitted by hand makes its own."""
        deadline = time.monotonic() + QUEUED_SECONDS
        while not self._is_known():
            if time.monotonic() > deadline or self.here.restarts:
                self.run.append("queued", WHO, job=self.here.job, cluster=self.cluster.name, log="slurm/job.out")
                return
            time.sleep(0.1)

    def _is_known(self) -> bool:
        queued = [event for event in self.run.events() if event.kind == "queued" and "job" in event.facts]
        ours = {self.here.job, self.here.raw_job}
        return any(ours & {str(one.facts["job"]), *map(str, one.facts.get("follow_ups", []))} for one in queued)

    # ---- what the last start lost ------------------------------------------------------------------------

    def _account_for_loss(self) -> None:
        """Record which nodes of the last start died, and that it did not end by itself."""
        attempt = self.run.attempts()[-1]
        self._record_gone(attempt)
        self.run.append("preempted", WHO, attempt.number, reason="the last start was lost without a word")

    def _record_gone(self, attempt: Attempt) -> list[str]:
        """Record, and return, the nodes of a start that died, by Slurm or by their last signs of life."""
        placement = _placement(attempt)
        nodes = placement.nodes if placement else ()
        begun = attempt.placement.stat().st_mtime if attempt.placement.exists() else 0.0
        shown = {node: fields for node in nodes if (fields := _show_node(node))}
        gone = sorted(life.suspects(shown, self._last_alive(attempt, placement), begun))
        for node in gone:
            self.run.append("node_failed", WHO, attempt.number, node=node)
        return gone

    def _last_alive(self, attempt: Attempt, placement: Placement | None) -> dict[str, float]:
        found: dict[str, float] = {}
        for process in placement.processes if placement else ():
            beat = read_beat(attempt.heartbeat(process.first_rank))
            if beat is not None:
                found[process.node] = max(found.get(process.node, 0.0), beat.alive)
        return found

    def _elsewhere(self, decision: life.Decision) -> int:
        """Ask to be put on other nodes: the job script requeues, and excludes what stands in ``slurm/exclude``."""
        write_whole(self.run.path / "slurm" / "exclude", ",".join(decision.avoid))
        self.run.append("preempted", WHO, reason=decision.reason)
        _say(decision.reason)
        return ExitCode.REQUEUE

    # ---- the attempt -------------------------------------------------------------------------------------

    def _attempt_in_a_thread(self) -> None:
        """Supervise in a thread, so that signals reach this one, which asks for a stop instead of ending the ranks."""
        thread = threading.Thread(target=self._attempt_noting_errors, name="supervisor")
        thread.start()
        stop_seen = self.run.stop_request.exists()
        requested = False
        while thread.is_alive():
            thread.join(0.1)
            stop_seen = stop_seen or self.run.stop_request.exists()
            if (self.asked.signals or stop_seen) and not requested and self._is_running():
                requested = True
                if not self.run.stop_request.exists():
                    self.run.request_stop(self._reason(), WHO)

    def _is_running(self) -> bool:
        return self.run.state is State.RUNNING

    def _reason(self) -> str:
        return signal.Signals(self.asked.signals[0]).name if self.asked.signals else "asked for before the start"

    def _attempt_noting_errors(self) -> None:
        try:
            self.outcome = self._attempt()
        except BaseException as error:  # handed to the main thread
            self.error = error

    def _attempt(self) -> Outcome:
        with _alone_soon(self.run):
            self.run.withdraw_stop()
            attempt = self.run.new_attempt()
            script = self.run.path / "slurm" / "job.sbatch"
            if script.is_file():
                shutil.copy2(script, attempt.path / "job.sbatch")
            return self._supervise(attempt)

    def _supervise(self, attempt: Attempt) -> Outcome:
        spec = with_starter(self.spec, self.cluster)
        directory = Path(spec.directory) if isinstance(spec, Script) else self.run.path
        options = Options(self.run.path.parent.parent, nodes=self.here.offers(), facts=job_facts(spec, self.cluster))
        plan = make_plan(spec, directory, self.run.code_path, options, self.run.path, attempt.number)
        start = plan.start
        if self.cluster.container is not None:
            folders = [self.run.path, directory, *self.run.code_path]
            start = contained(start, self.cluster.container, sys.executable, folders, self.here.gpus > 0)
        if not self.run.is_script:
            start = shielded(start, plan.facts.mpi, sys.executable)
        write_json(attempt.placement, plan.placement.to_json())
        write_whole(attempt.command, start.text(self.run.path))
        write_json(attempt.provenance, provenance(sys.argv, directory, plan.facts.mpi, start_method=start.starter))
        for note in (*plan.placement.notes, *start.notes):
            self.run.append("notice", WHO, attempt.number, text=note)
            _say(note)
        watching = Watching(
            stall_seconds={str(phase): limit for phase, limit in spec.launch.stall_seconds.items()},
            abort_on_stall=spec.launch.on_stall == "abort",
            is_script=self.run.is_script,
        )
        return supervise(self.run, attempt, start, plan.placement, plan.environment, watching, _Printed())

    # ---- how it ended ------------------------------------------------------------------------------------

    def _ended(self, outcome: Outcome) -> int:
        """The exit code, after asking Slurm whether somebody cancelled the job, and whether a node is gone."""
        _say(outcome.message)
        if outcome.state is State.FAILED and not outcome.failure:
            print("\n".join(outcome.starter_lines), flush=True)
        if outcome.state is State.COMPLETED:
            self._publish()
            self._show()
            return ExitCode.DONE
        if self._cancelled_by_user():
            return self._cancel(outcome)
        if signal.SIGTERM in self.asked.signals:
            why = self._cause()
            _say(f"Slurm takes the nodes away: {why.value}")
            if why is Cause.CANCELLED:
                return self._cancel(outcome)
            if why is Cause.TIME_LIMIT and outcome.state is not State.PREEMPTED:
                return self._out_of_time()
            gone = self._record_gone(self.run.attempt(outcome.attempt))
            return self._again(outcome, f"lost {', '.join(gone)}" if gone else why.value)
        if outcome.state is State.FAILED:
            gone = self._dead_nodes(outcome)
            for node in gone:
                self.run.append("node_failed", WHO, outcome.attempt, node=node)
            return self._again(outcome, f"lost {', '.join(gone)}") if gone else outcome.exit_code
        return self._again(outcome, self._reason()) if outcome.state is State.PREEMPTED else outcome.exit_code

    def _publish(self) -> None:
        """Let ``saman models publish`` decide, as a process: this room does not know the registry."""
        if not isinstance(self.spec, Experiment) or self.spec.publish is None:
            return
        created = next((event.facts for event in self.run.events() if event.kind == "created"), {})
        models = str(created.get("models_dir") or self.run.path.parent.parent.parent / "models")
        command = [sys.executable, "-m", "saman", "models", "publish", str(self.run.path), "--models-dir", models]
        subprocess.run(command, stdin=subprocess.DEVNULL, check=False)

    def _show(self) -> None:
        """Let ``saman track`` show the run where its experiment asks; what no server takes waits in the run folder."""
        if isinstance(self.spec, Experiment) and self.spec.tracking is not None:
            command = [sys.executable, "-m", "saman", "track", str(self.run.path)]
            subprocess.run(command, stdin=subprocess.DEVNULL, check=False)

    def _cancelled_by_user(self) -> bool:
        requests = [event for event in self.run.events() if event.kind == "stop_requested"]
        return any(event.who == "user" and event.facts.get("reason") == "cancel" for event in requests[-2:])

    def _cancel(self, outcome: Outcome) -> int:
        if outcome.state is not State.CANCELLED:
            done = "with a checkpoint" if outcome.state is State.PREEMPTED else "before a checkpoint was done"
            self.run.append("cancelled", WHO, outcome.attempt, reason=f"job {self.here.job} was cancelled, {done}")
        return ExitCode.INTERRUPTED

    def _out_of_time(self) -> int:
        """Going on by itself would meet the same limit again without having come further."""
        message = f"job {self.here.job} reached its time limit before a checkpoint was done; saman resume {self.run.id}"
        self.run.append("failed", WHO, message=message, exit_code=int(ExitCode.RUN_FAILED))
        _say(message)
        return ExitCode.RUN_FAILED

    def _again(self, outcome: Outcome, reason: str) -> int:
        """Go on in another start, if one is left."""
        attempts, allowed = len(self.run.attempts()), self.cluster.requeue.attempts
        decision = life.on_start(self.run.events(), attempts, allowed, ())
        if outcome.state is not State.PREEMPTED or decision.begin is Begin.NOT_NEEDED:
            self.run.append("preempted", WHO, outcome.attempt, reason=reason)
            decision = life.on_start(self.run.events(), attempts, allowed, ())
        if decision.begin is Begin.USED_UP:
            message = f"{decision.reason}; saman resume {self.run.id} continues from the newest checkpoint"
            self.run.append("failed", WHO, message=message, exit_code=int(ExitCode.RUN_FAILED))
            _say(message)
            return ExitCode.RUN_FAILED
        return ExitCode.REQUEUE

    def _cause(self) -> Cause:
        deadline = time.monotonic() + CAUSE_SECONDS
        found = Cause.UNKNOWN
        while found is Cause.UNKNOWN and time.monotonic() < deadline:
            recorded = _recorded_state(self.here.job)
            tail = _tail(self.run.path / "slurm" / "job.out")
            found = life.cause(client.show_job(self.here.job), self.here.restarts, recorded, tail, self.here.raw_job)
            if found is Cause.UNKNOWN:
                time.sleep(0.5)
        return found

    def _dead_nodes(self, outcome: Outcome) -> list[str]:
        """Nodes whose ranks vanished and on which no step starts any more."""
        attempt = self.run.attempt(outcome.attempt)
        placement = _placement(attempt)
        if placement is None or (outcome.failure and outcome.failure.first[0].kind in ("user_error", "misplaced")):
            return []
        silent = {
            process.node
            for process in placement.processes
            if (record := RankRecord.read(attempt.rank_record(process.first_rank))) is None or not record.has_ended
        }
        return [node for node in placement.nodes if node in silent and not answers(node)]


def with_starter(spec: Experiment | Script, cluster: Cluster) -> Experiment | Script:
    """``spec`` with ``auto`` replaced by how this site starts ranks."""
    if spec.launch.starter != "auto":
        return spec
    starter = "mpirun" if cluster.mpi.start == "mpirun" else "srun"
    return spec.model_copy(update={"launch": spec.launch.model_copy(update={"starter": starter})})


def job_facts(spec: Experiment | Script, cluster: Cluster) -> Facts:
    """What is known of the machine, with what the cluster file says."""
    found = gather_facts()
    names = (*forwarded(os.environ), *environment_of(cluster))
    return replace(
        found,
        in_allocation=True,
        pmi="none" if cluster.mpi.start == "gloo" else cluster.mpi.pmi,
        interface=cluster.network.interface,
        forward=tuple(dict.fromkeys(names)),
    )


class _alone_soon:  # noqa: N801  (a context manager that reads like its verb)
    """``alone``, tried again while a dead node's lock is still held."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.held = alone(run)

    def __enter__(self) -> None:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                return self.held.__enter__()
            except UserError as error:
                if isinstance(error, EnvironmentLack) or time.monotonic() > deadline:
                    raise
                time.sleep(1.0)
                self.held = alone(self.run)

    def __exit__(self, *details: object) -> None:
        self.held.__exit__(None, None, None)


def _placement(attempt: Attempt) -> Placement | None:
    from saman.configs.files import read_json

    value = read_json(attempt.placement)
    return Placement.from_json(value) if isinstance(value, Mapping) else None


def _show_node(node: str) -> dict[str, str]:
    try:
        answer = client.ask(["scontrol", "-o", "show", "node", node], timeout_seconds=20)
    except EnvironmentLack:
        return {}
    return client.fields_of(answer.lines[0]) if answer.code == 0 and answer.lines else {}


def _recorded_state(job: str) -> str | None:
    try:
        answer = client.ask(["sacct", "-n", "-P", "-X", "-j", job, "-o", "State"], timeout_seconds=10)
    except EnvironmentLack:
        return None
    return answer.lines[-1] if answer.code == 0 and answer.lines else None


def _tail(path: Path, most_bytes: int = 65536) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - most_bytes))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def _say(text: str) -> None:
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} saman: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
