"""Ending runs: their Slurm jobs with all that wait to follow, or the processes of a run on this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator, Sequence

from saman.configs.errors import EnvironmentLack
from saman.jobs.status import RunStatus, look
from saman.launcher.supervision.run_lock import running, supervisor_of
from saman.runs.events import State
from saman.runs.folder import RunFolder
from saman.slurm.site import client
from saman.slurm.submission.run_jobs import jobs_of

CHECKPOINT_SECONDS = 20.0  # in which a run on this machine may end with a checkpoint
END_SECONDS = 15.0  # in which its supervisor ends what is left


def cancel_runs(runs: Sequence[RunFolder]) -> Iterator[str]:
    """End each run that has not ended; yields a sentence for each. Raises ``EnvironmentLack`` where Slurm is away."""
    for run, status in zip(runs, look(runs), strict=True):
        jobs = jobs_of(run.events())
        if status.over and status.state != "vanished":
            yield f"{run.id} is {status.state} already"
        elif jobs:
            yield _there(run, status, jobs)
        else:
            yield _here(run, status)


def _there(run: RunFolder, status: RunStatus, jobs: Sequence[str]) -> str:
    run.append("stop_requested", "user", reason="cancel")
    answer = client.cancel(reversed(jobs))  # those that wait to follow first, so that none begins
    known = [line for line in answer.err.splitlines() if "Invalid job id" not in line]
    if answer.code != 0 and known:
        raise EnvironmentLack(f"scancel failed: {client.last_error(answer)}", where=f"job {jobs[0]}")
    if status.state != "running":
        began = "went on" if status.attempt else "began"
        run.append("cancelled", "user", reason=f"job {jobs[0]} was cancelled before it {began}")
    return f"{run.id}: job {status.job or jobs[0]} is cancelled"


def _here(run: RunFolder, status: RunStatus) -> str:
    """A run on this machine: asked for a checkpoint; a program, or a run that takes too long, is ended."""
    supervisor = supervisor_of(run)
    host = _last_host(run)
    if supervisor is None and status.state == "running" and host != socket.gethostname():
        return _ask(run, f"it runs on {host}")
    if supervisor is None:
        run.append("cancelled", "user", reason="nobody was at work on it any more")
        return f"{run.id} is cancelled; nobody was at work on it any more"
    if supervisor.pid is None or supervisor.host != socket.gethostname():
        return _ask(run, f"it runs on {supervisor.host or 'another machine'}")
    if run.is_script:
        run.append("stop_requested", "user", reason="cancel")
    else:
        run.request_stop("cancel", "user")
    if run.is_script or not _ends(run, CHECKPOINT_SECONDS):
        with contextlib.suppress(ProcessLookupError):
            os.kill(supervisor.pid, signal.SIGTERM)
        _ends(run, END_SECONDS)
    return _told(run)


def _told(run: RunFolder) -> str:
    state = run.state
    if state is State.RUNNING:
        return f"{run.id} is asked to stop, and has not ended yet"
    if state in (State.COMPLETED, State.FAILED):
        return f"{run.id} has {state.value} before it could be cancelled"
    kept = ", with a checkpoint" if state is State.PREEMPTED else ", before a checkpoint was done"
    kept = "" if run.is_script else kept
    if state is not State.CANCELLED:
        run.append("cancelled", "user", reason=f"cancelled{kept}")
    return f"{run.id} is cancelled{kept}"


def _ask(run: RunFolder, where: str) -> str:
    if run.is_script:
        return f"{run.id}: {where}; type saman cancel there"
    run.request_stop("cancel", "user")
    return f"{run.id}: {where}, and is asked to stop at its next step, with a checkpoint"


def _last_host(run: RunFolder) -> str:
    starts = [event.facts for event in run.events() if event.kind == "attempt_started"]
    return str(starts[-1].get("host", "another machine")) if starts else "another machine"


def _ends(run: RunFolder, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while running(run) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not running(run)
