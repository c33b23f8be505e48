"""Cancel runs: their Slurm jobs with all follow-ups, or the processes of a run on this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from saman.configs.errors import EnvironmentLack
from saman.jobs.reconcile import reconcile
from saman.jobs.status import RunState, RunStatus
from saman.launcher.supervision.run_lock import is_supervised, supervisor_of
from saman.runs.events import USER, EventKind, State, find_last, state_in_words
from saman.runs.folder import RunFolder
from saman.runs.records.run_events import AttemptStart, StopCause
from saman.runs.trust.run_trust import require_trusted
from saman.slurm.site import client
from saman.slurm.submission.run_jobs import jobs_of

CHECKPOINT_SECONDS = 20.0  # for a run on this machine to end with a checkpoint
_GONE = ("Invalid job id", "already completing or completed")  # scancel's message for a job that has ended
END_SECONDS = 15.0  # for its supervisor to end every process after that


def cancel_runs(runs: Sequence[RunFolder]) -> Iterator[str]:
    """Cancel each run that has not ended.

    Yields:
        A sentence for each run.

    Raises:
        UserError: A run that has not ended is another user's: its folder would name the jobs and processes to end.
        EnvironmentLack: Slurm refuses, or does not answer.
    """
    statuses = reconcile(runs)
    for run, status in zip(runs, statuses, strict=True):
        if not status.over or status.state is RunState.VANISHED:
            require_trusted(run, "cancel")
    jobs = {
        run.path: jobs_of(run.events())
        for run, status in zip(runs, statuses, strict=True)
        if not status.over or status.state is RunState.VANISHED
    }
    _cancel_jobs(runs, jobs)
    for run, status in zip(runs, statuses, strict=True):
        if run.path not in jobs:
            yield f"{run.id} {state_in_words(status.state)} already"
        elif jobs[run.path]:
            yield _record_cancelled(run, status, jobs[run.path][0])
        else:
            yield _cancel_here(run, status)


def _cancel_jobs(runs: Sequence[RunFolder], jobs: Mapping[Path, Sequence[str]]) -> None:
    """Cancel the jobs of all runs with two requests, however many there are: follow-ups first, so that none begins."""
    for run in runs:
        if jobs.get(run.path):
            run.append(EventKind.STOP_REQUESTED, USER, reason=StopCause.CANCELLED.value)
    follow_ups = [job for each in jobs.values() for job in each[1:]]
    first = [job for each in jobs.values() for job in each[:1]]
    for wanted in filter(None, (follow_ups, first)):
        answer = client.scancel(wanted)
        failed = [line for line in answer.err.splitlines() if not any(text in line for text in _GONE)]
        if answer.code != 0 and failed:
            raise EnvironmentLack(f"scancel failed: {client.last_error_line(answer)}", where=f"job {wanted[0]}")


def _record_cancelled(run: RunFolder, status: RunStatus, job: str) -> str:
    if status.state is not RunState.RUNNING:
        began = "continued" if status.attempt else "began"
        run.append(EventKind.CANCELLED, USER, reason=f"job {job} was cancelled before it {began}")
    return f"{run.id}: job {status.job or job} is cancelled"


def _cancel_here(run: RunFolder, status: RunStatus) -> str:
    """Cancel a run without a job: ask for a checkpoint; end a program, or a run that takes too long."""
    supervisor = supervisor_of(run)
    host = _last_host(run)
    if supervisor is None and status.state is RunState.RUNNING and host != socket.gethostname():
        return _ask(run, f"it runs on {host}")
    if supervisor is None:
        run.append(EventKind.CANCELLED, USER, reason="its processes had all exited")
        return f"{run.id} is cancelled; its processes had all exited"
    if supervisor.pid is None or supervisor.host != socket.gethostname():
        return _ask(run, f"it runs on {supervisor.host or 'another machine'}")
    if run.is_script:
        run.append(EventKind.STOP_REQUESTED, USER, reason=StopCause.CANCELLED.value)
    else:
        run.request_stop(StopCause.CANCELLED.value, USER)
    if run.is_script or not _ends(run, CHECKPOINT_SECONDS):
        with contextlib.suppress(ProcessLookupError):
            os.kill(supervisor.pid, signal.SIGTERM)
        _ends(run, END_SECONDS)
    return _result(run)


_ENDS = {State.COMPLETED: "completed", State.FAILED: "failed"}


def _result(run: RunFolder) -> str:
    state = run.state
    if state is State.RUNNING:
        return f"{run.id} was asked to stop, and has not ended yet"
    if state in _ENDS:
        return f"{run.id} {_ENDS[state]} before it could be cancelled"
    kept = ", with a checkpoint" if state is State.PREEMPTED else ", before a checkpoint was done"
    kept = "" if run.is_script else kept
    if state is not State.CANCELLED:
        run.append(EventKind.CANCELLED, USER, reason=f"cancelled{kept}")
    return f"{run.id} is cancelled{kept}"


def _ask(run: RunFolder, where: str) -> str:
    if run.is_script:
        return f"{run.id}: {where}; run saman cancel on that machine"
    run.request_stop(StopCause.CANCELLED.value, USER)
    return f"{run.id}: {where}, and was asked to stop at its next step, with a checkpoint"


def _last_host(run: RunFolder) -> str:
    start = find_last(AttemptStart.from_event, run.events())
    return (start and start.host) or "another machine"


def _ends(run: RunFolder, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while is_supervised(run) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not is_supervised(run)
