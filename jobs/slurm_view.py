"""The state of jobs by Slurm: the queue first, then accounting."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from saman.configs.errors import EnvironmentLack
from saman.slurm.site import client
from saman.slurm.site.job_states import JobState


@dataclass(frozen=True)
class SlurmView:
    """Slurm's answers about a set of jobs. ``reachable`` is false if Slurm cannot be asked from this machine."""

    queued: Mapping[str, client.QueuedJob]
    recorded: Mapping[str, client.RecordedJob] | None
    reachable: bool

    def state(self, job: str) -> JobState:
        """The state of ``job``. The queue counts before accounting, which may lag behind the end of a job."""
        if job in self.queued:
            return self.queued[job].state
        if self.recorded and job in self.recorded:
            state = self.recorded[job].state
            # No longer in the queue, and not yet closed in accounting.
            return JobState.ENDING if not state.ended else state
        return JobState.UNKNOWN


def ask_slurm(jobs: Iterable[str]) -> SlurmView:
    """Ask Slurm about ``jobs``: first the queue, then accounting for the jobs that have left it, each once."""
    wanted = set(jobs)
    if not wanted or not client.available("squeue"):
        return SlurmView({}, None, reachable=False)
    try:
        queued = client.queue()
    except EnvironmentLack:
        return SlurmView({}, client.accounting(wanted), reachable=False)
    over = {job for job in wanted if job not in queued or queued[job].state.ended}
    return SlurmView(queued, client.accounting(over) if over else None, reachable=True)
