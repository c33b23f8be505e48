"""Continuing runs that were Slurm's, by a new job in the same run folder."""

from __future__ import annotations

from collections.abc import Sequence

from saman.configs.errors import UserError
from saman.jobs.status import look
from saman.runs.folder import RunFolder
from saman.slurm.submission.run_jobs import last_queued
from saman.slurm.submission.submit import Submission, resubmit


def is_slurms(run: RunFolder) -> bool:
    """Whether the newest start of the run was a Slurm job's."""
    return run.slurm.cluster.is_file() and last_queued(run.events()) is not None


def check_resumable(run: RunFolder) -> None:
    """Raise ``UserError`` for a run that has completed, or that goes on anyway."""
    (status,) = look([run])
    if status.state == "completed":
        raise UserError("this run has completed", where=str(run.path), remedy="saman run or submit starts a new one")
    if status.state in ("running", "queued"):
        problem = f"this run is {status.state}: {status.detail}"
        raise UserError(problem, where=str(run.path), remedy="saman cancel ends it")


def resume_there(run: RunFolder, partition: str | None = None, exclude: Sequence[str] = ()) -> Submission:
    """Submit the run again, on the cluster that it was made for; attempts are counted anew."""
    return resubmit(run, partition, exclude)
