"""Which Slurm jobs a run has, by its events: the newest that was submitted, and those that wait to go on with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from saman.runs.events import Event
from saman.runs.folder import RunFolder


def record_queued(run: RunFolder, job: str, cluster: str, who: str, **facts: Any) -> None:
    """The event by which every other command finds the job."""
    run.append("queued", who, job=job, cluster=cluster, log="slurm/job.out", **facts)


def record_follow_ups(run: RunFolder, jobs: Sequence[str]) -> None:
    """The jobs that go on with the run where the one before was cut short."""
    run.append("follow_ups", "submitter", jobs=list(jobs))


def last_queued(events: Sequence[Event]) -> Event | None:
    """The newest event that names a Slurm job; ``None`` where the run has been taken away from Slurm since."""
    for event in reversed(events):
        if event.kind == "taken_here":
            return None
        if event.kind == "queued" and "job" in event.facts:
            return event
    return None


def record_taken_here(run: RunFolder) -> None:
    """From now on the run is this machine's; its jobs are of the past."""
    run.append("taken_here", "user")


def forerunner(events: Sequence[Event], job: str) -> str | None:
    """The job after which ``job`` waits to go on with the run; ``None`` where it is no follow-up."""
    jobs = jobs_of(events)
    return jobs[jobs.index(job) - 1] if job in jobs[1:] else None


def jobs_of(events: Sequence[Event]) -> list[str]:
    """The newest job of a run and those that wait to follow it, in the order in which they would start."""
    found: list[str] = []
    for event in events:
        if event.kind == "queued" and "job" in event.facts:
            found = [str(event.facts["job"]), *map(str, event.facts.get("follow_ups", []))]
        elif event.kind == "follow_ups" and found:
            found += map(str, event.facts.get("jobs", []))
        elif event.kind == "taken_here":
            found = []
    return found
