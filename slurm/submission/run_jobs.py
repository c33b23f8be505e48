"""The Slurm jobs of a run, by its events: the newest job, and the follow-up jobs that would continue the run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from saman.runs.events import SUBMITTER, USER, Event, EventKind
from saman.runs.folder import RunFolder
from saman.runs.records.run_events import FollowUps, JobSubmission


def record_queued(run: RunFolder, job: str, cluster: str, who: str, **facts: Any) -> None:
    """Record a submitted job, so that every other command finds it.

    Args:
        run: the run folder.
        job: the job's id.
        cluster: the cluster's name.
        who: the author of the event.
        facts: further fields of the event.
    """
    run.append(EventKind.QUEUED, who, job=job, cluster=cluster, log="slurm/job.out", **facts)


def record_follow_ups(run: RunFolder, jobs: Sequence[str]) -> None:
    """Record the jobs that continue the run if the job before them is interrupted."""
    run.append(EventKind.FOLLOW_UPS, SUBMITTER, jobs=list(jobs))


def last_queued(events: Sequence[Event]) -> JobSubmission | None:
    """The newest job submitted for a run; ``None`` if the run has continued on this machine since."""
    for event in reversed(events):
        if event.kind == EventKind.TAKEN_HERE:
            return None
        if (submission := JobSubmission.from_event(event)) is not None:
            return submission
    return None


def record_taken_here(run: RunFolder) -> None:
    """Record that the run continues on this machine instead of in its jobs."""
    run.append(EventKind.TAKEN_HERE, USER)


def forerunner(events: Sequence[Event], job: str) -> str | None:
    """The submitted job that the follow-up ``job`` depends on; ``None`` if ``job`` is not a follow-up."""
    jobs = jobs_of(events)
    return jobs[jobs.index(job) - 1] if job in jobs[1:] else None


def jobs_of(events: Sequence[Event]) -> list[str]:
    """The newest job of a run and its follow-ups, in the order in which they would start."""
    found: list[str] = []
    for event in events:
        if (submission := JobSubmission.from_event(event)) is not None:
            found = [submission.job, *submission.follow_ups]
        elif (more := FollowUps.from_event(event)) is not None and found:
            found += more.jobs
        elif event.kind == EventKind.TAKEN_HERE:
            found = []
    return found
