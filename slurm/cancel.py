"""Ending runs: their Slurm jobs with all that wait to follow, or the processes of a run on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from saman.configs.errors import EnvironmentLack
from saman.launcher.run_folder import RunFolder
from saman.slurm import client
from saman.slurm.follow import look
from saman.slurm.queued import jobs_of, last_queued


def cancel_runs(runs: Sequence[RunFolder]) -> Iterator[str]:
    """End each run that has not ended; yields a sentence for each. Raises ``EnvironmentLack`` where Slurm is away."""
    for run, status in zip(runs, look(runs), strict=True):
        if status.over and status.state != "vanished":
            yield f"{run.id} is {status.state} already"
            continue
        events = run.events()
        queued = last_queued(events)
        if queued is None:
            yield _local(run)
            continue
        jobs = jobs_of(events)
        run.append("stop_requested", "user", reason="cancel")
        answer = client.cancel(jobs)
        known = [line for line in answer.err.splitlines() if "Invalid job id" not in line]
        if answer.code != 0 and known:
            raise EnvironmentLack(f"scancel failed: {client.last_error(answer)}", where=f"job {jobs[-1]}")
        if status.state != "running":
            run.append("cancelled", "user", reason=f"job {jobs[-1]} was cancelled before it ran on")
        yield f"{run.id}: job {jobs[-1]} is cancelled"


def _local(run: RunFolder) -> str:
    run.request_stop("cancel", "user")
    return f"{run.id} is asked to stop at its next step, with a checkpoint"
