"""``python -m saman.slurm.job RUN``: a start of a run inside its Slurm job.

Exit statuses: 0 done (or not needed), 1 the run or its publication failed, 2 and 3 not started, 130 cancelled,
85 to be requeued.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from pathlib import Path

from saman.configs.errors import ExitCode, UserError
from saman.configs.schemas.cluster import Cluster
from saman.configs.terminal_text import clean_text
from saman.launcher.monitoring.telling import told_of_end
from saman.launcher.supervision.outcome import Outcome
from saman.launcher.supervision.run_lock import RunHeldError, hold_run
from saman.launcher.supervision.signals import RecordedSignals
from saman.runs.events import EventKind, State
from saman.runs.files.whole import write_whole
from saman.runs.files.write_errors import explain_write_errors
from saman.runs.folder import RunFolder
from saman.slurm.dependencies import unmet_at_start
from saman.slurm.job import decisions
from saman.slurm.job.allocation import Allocation, allocation
from saman.slurm.job.attempt import LOCK_SECONDS, JobLog, attempts_in_job
from saman.slurm.job.decisions import Begin
from saman.slurm.job.ending import Ending
from saman.slurm.job.node_failures import WHO, account_for_loss
from saman.slurm.replacements.nodes import give_back
from saman.slurm.submission.run_jobs import forerunner, jobs_of, last_queued, record_queued
from saman.slurm.submission.submit import cluster_of

PREREQUISITE_SECONDS = 10.0  # how late the last event of the run before may reach this node
QUEUED_SECONDS = 5.0  # until the submitter has written the job's id


def main(arguments: list[str]) -> int:
    """Start the run in this job, and see it through; returns the exit status of the job."""
    if len(arguments) != 1:
        print("usage: python -m saman.slurm.job RUN", file=sys.stderr)
        return ExitCode.BAD_REQUEST
    asked = RecordedSignals()
    asked.start()  # for good: no signal may end this process before it has recorded how the run ended
    run = RunFolder(Path(arguments[0]).absolute())
    with told_of_end(run, JobLog(_say), in_a_hurry=lambda: bool(asked.numbers)):
        return _see_through(run, asked)


def _see_through(run: RunFolder, asked: RecordedSignals) -> int:
    try:
        with explain_write_errors(run.path, "the run folder"):
            return _Start(RunFolder.open(run.path), asked).whole()
    except RunHeldError as error:  # by another job: this one adds nothing to the run
        _say(str(error))
        return error.exit_code
    except UserError as error:
        _say(str(error))
        with contextlib.suppress(OSError):  # a full disk takes no event; the job's exit status still says it
            if not run.state.ended:
                run.append(EventKind.FAILED, WHO, message=str(error), exit_code=int(error.exit_code))
        return error.exit_code


class _Start:
    """A start of a run."""

    def __init__(self, run: RunFolder, asked: RecordedSignals) -> None:
        self.run, self.asked = run, asked
        self.cluster: Cluster = cluster_of(run)
        resources = run.spec().resources
        self.here: Allocation = allocation(os.environ, resources.gpus_per_rank * resources.ranks_per_node)
        self.outcome: Outcome | None = None
        self.error: BaseException | None = None

    def whole(self) -> int:
        """Decide whether to begin, supervise the attempt, decide how the job ends."""
        self._know_the_job()
        allowed = self.cluster.requeue.attempts
        if not self.run.state.ended and (taken_out := self._was_taken_out()):
            self.run.append(EventKind.CANCELLED, WHO, reason=taken_out)
        if not self.run.attempts() and (missing := self._unmet_prerequisite()):
            self.run.append(EventKind.CANCELLED, WHO, reason=missing)
            _say(f"not started: {missing}")
            return ExitCode.RUN_FAILED
        if decisions.was_lost(self.run.events()):
            with hold_run(self.run, LOCK_SECONDS):  # else another job is at work on it
                if decisions.was_lost(self.run.events()):
                    account_for_loss(self.run)
        decision = decisions.decide_start(self.run.events(), len(self.run.attempts()), allowed, self.here.nodes)
        if decision.begin is Begin.NOT_NEEDED:
            _say(f"not needed: {decision.reason}")
            return ExitCode.DONE
        if decision.begin is Begin.USED_UP:
            self.run.append(EventKind.FAILED, WHO, message=decision.reason, exit_code=int(ExitCode.RUN_FAILED))
            return ExitCode.RUN_FAILED
        if decision.begin is Begin.ELSEWHERE:
            return self._elsewhere(decision)
        self._attempt_in_a_thread()
        if self.error is not None:
            raise self.error
        assert self.outcome is not None
        return Ending(self.run, self.here, allowed, self.asked.numbers, _say).code(self.outcome)

    # ---- whether to begin --------------------------------------------------------------------------------

    def _know_the_job(self) -> None:
        """Wait for the submitter's record of this job; record it here if the script was submitted by hand."""
        deadline = time.monotonic() + QUEUED_SECONDS
        while not {self.here.job, self.here.raw_job} & set(jobs_of(self.run.events())):
            if time.monotonic() > deadline or self.here.restarts:
                record_queued(self.run, self.here.job, self.cluster.name, WHO)
                return
            time.sleep(0.1)

    def _was_taken_out(self) -> str | None:
        """Why a follow-up is not needed: the job before it was removed from the queue before it began."""
        before = forerunner(self.run.events(), self.here.job)
        begun = self.run.slurm.begun
        if before is None or (begun.is_file() and before in begun.read_text().split()):
            return None
        return f"job {before} was removed from the queue before it began"

    def _unmet_prerequisite(self) -> str | None:
        """Why this run must not begin, where Slurm knows only that the run before it has ended."""
        queued = last_queued(self.run.events())
        deadline = time.monotonic() + PREREQUISITE_SECONDS
        while queued is not None and (missing := unmet_at_start(queued.after)) is not None:
            if time.monotonic() > deadline:
                return missing
            time.sleep(0.5)
        return None

    def _elsewhere(self, decision: decisions.Decision) -> int:
        """Ask for other nodes: the job script requeues the job without the nodes in ``slurm/exclude``."""
        write_whole(self.run.slurm.exclude, ",".join(decision.avoid))
        self.run.append(EventKind.PREEMPTED, WHO, reason=decision.reason)
        _say(decision.reason)
        return ExitCode.REQUEUE

    # ---- the attempt -------------------------------------------------------------------------------------

    def _attempt_in_a_thread(self) -> None:
        """Supervise in a thread; this thread receives the signals, and asks the ranks for a checkpoint."""
        thread = threading.Thread(target=self._attempt_noting_errors, name="supervisor")
        thread.start()
        stop_seen = self.run.stop_request.exists()
        requested = gives_back = False
        while thread.is_alive():
            thread.join(0.1)
            if signal.SIGTERM in self.asked.numbers and not gives_back:
                gives_back = True
                give_back(self.run)
            stop_seen = stop_seen or self.run.stop_request.exists()
            if (self.asked.numbers or stop_seen) and not requested and self.run.state is State.RUNNING:
                requested = True
                if self.run.stop_request.exists():  # by the job script, or by hand
                    self.run.append(EventKind.STOP_REQUESTED, WHO, reason=self._reason())
                else:
                    self.run.request_stop(self._reason(), WHO)

    def _reason(self) -> str:
        return signal.Signals(self.asked.numbers[0]).name if self.asked.numbers else "control/stop"

    def _attempt_noting_errors(self) -> None:
        try:
            self.outcome = attempts_in_job(self.run, self.cluster, self.here, _say)
        except BaseException as error:  # handed to the main thread
            self.error = error


def _say(text: str) -> None:
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} saman: {clean_text(text)}", flush=True)
