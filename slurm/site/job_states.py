"""The states of a Slurm job, reduced to those that saman tells apart. Pure."""

from __future__ import annotations

from enum import Enum


class JobState(str, Enum):
    """The state of a job, whatever Slurm calls it."""

    PENDING = "pending"
    RUNNING = "running"
    ENDING = "ending"  # its processes are being ended; accounting may lag
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    NODE_FAIL = "node_fail"
    PREEMPTED = "preempted"
    UNKNOWN = "unknown"  # Slurm does not know it, or does not answer

    @property
    def ended(self) -> bool:
        """Whether the job is over for Slurm."""
        return self not in (JobState.PENDING, JobState.RUNNING, JobState.ENDING, JobState.UNKNOWN)


_STATES = {
    "PENDING": JobState.PENDING, "CONFIGURING": JobState.PENDING, "REQUEUED": JobState.PENDING,
    "REQUEUE_HOLD": JobState.PENDING, "REQUEUE_FED": JobState.PENDING, "SPECIAL_EXIT": JobState.PENDING,
    "RESV_DEL_HOLD": JobState.PENDING, "RUNNING": JobState.RUNNING, "SUSPENDED": JobState.RUNNING,
    "STOPPED": JobState.RUNNING, "RESIZING": JobState.RUNNING, "SIGNALING": JobState.RUNNING,
    "STAGE_OUT": JobState.ENDING, "COMPLETING": JobState.ENDING, "COMPLETED": JobState.COMPLETED,
    "FAILED": JobState.FAILED, "BOOT_FAIL": JobState.NODE_FAIL, "OUT_OF_MEMORY": JobState.FAILED,
    "CANCELLED": JobState.CANCELLED, "REVOKED": JobState.CANCELLED, "TIMEOUT": JobState.TIMEOUT,
    "DEADLINE": JobState.TIMEOUT, "NODE_FAIL": JobState.NODE_FAIL, "PREEMPTED": JobState.PREEMPTED,
}  # fmt: skip


def job_state(slurm: str) -> JobState:
    """The state that Slurm's word means; accepts ``CANCELLED by 1000`` and a trailing ``+``.

    >>> job_state("CANCELLED by 1000").value
    'cancelled'
    >>> job_state("CONFIGURING") is JobState.PENDING
    True
    """
    word = slurm.strip().split(" ")[0].rstrip("+").upper()
    return _STATES.get(word, JobState.UNKNOWN)
