"""Slurm's states and pending reasons in plain words. Pure: text in, text out."""

from __future__ import annotations

import re
from enum import Enum


class JobState(str, Enum):
    """Where a job stands for saman, whatever Slurm calls it."""

    PENDING = "pending"
    RUNNING = "running"
    ENDING = "ending"  # its processes are being ended; accounting may lag
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    NODE_FAIL = "node_fail"
    PREEMPTED = "preempted"
    UNKNOWN = "unknown"  # Slurm does not know it, or cannot be asked

    @property
    def ended(self) -> bool:
        """Whether Slurm itself will do nothing more with the job."""
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

_REASONS = {
    "Resources": "waits for nodes to become free",
    "Priority": "waits behind jobs of higher priority",
    "None": "waits for Slurm to look at it",
    "BeginTime": "waits for its begin time (after a requeue: a moment)",
    "Dependency": "waits for another job to end",
    "DependencyNeverSatisfied": "waits for a job that did not end as it should, so it will never start",
    "JobHeldUser": "is held; `scontrol release` lets it go on",
    "JobHeldAdmin": "is held by the administrators",
    "JobArrayTaskLimit": "waits because only so many tasks of this array may run at once",
    "ReqNodeNotAvail": "waits for nodes that are down, reserved or in maintenance",
    "Reservation": "waits for its reservation to begin",
    "ReservationDeleted": "asked for a reservation that no longer exists",
    "PartitionDown": "waits because the partition is closed",
    "PartitionInactive": "waits because the partition is not active",
    "PartitionNodeLimit": "asks for more nodes than the partition allows, so it will never start",
    "PartitionTimeLimit": "asks for more time than the partition allows, so it will never start",
    "BadConstraints": "asks for what no node has, so it will never start",
    "InvalidAccount": "names an account that is not valid, so it will never start",
    "InvalidQOS": "names a QOS that is not valid, so it will never start",
    "Licenses": "waits for licences",
    "Cleaning": "waits for its previous start to be cleaned up",
    "NodeDown": "waits for a node that is down",
    "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions": (
        "waits for nodes that are down, drained or kept for jobs of higher priority"
    ),
    "launch failed requeued held": "could not be started and is held; `scontrol release` tries again",
}
_COUNTED = {
    "cpu": "cores", "mem": "memory", "memory": "memory", "node": "nodes", "gres": "GPUs or other GRES",
    "wall": "time", "wallduration": "time", "jobs": "running jobs", "job": "running jobs", "submit": "submitted jobs",
    "submitjob": "submitted jobs", "submitjobs": "submitted jobs", "billing": "billing units", "bb": "burst buffer",
    "license": "licences", "energy": "energy", "cpuminutes": "core-minutes", "cpurunminutes": "core-minutes at a time",
}  # fmt: skip
_SCOPES = {
    "PerUser": " for one user",
    "PU": " for one user",
    "PerAccount": " for one account",
    "PerAcct": " for one account",
    "PA": " for one account",
    "PerNode": " per node",
}
LIMIT = re.compile(
    r"(?P<owner>QOS|Assoc)(?P<kind>Grp|Max|Min)(?P<what>[A-Za-z]+?)"
    r"(?P<scope>PerJob|PerNode|PerUser|PerAccount|PerAcct|PU|PA)?(?:Limit)?"
)


def job_state(slurm: str) -> JobState:
    """What Slurm's state means; it may carry ``CANCELLED by 1000`` or a trailing ``+``."""
    word = slurm.strip().split(" ")[0].rstrip("+").upper()
    return _STATES.get(word, JobState.UNKNOWN)


def reason(slurm: str) -> str:
    """Why a job is pending, as the end of the sentence "the job …"; an unknown reason is quoted."""
    word = slurm.strip().strip("()") or "None"
    if word in _REASONS:
        return _REASONS[word]
    limit = LIMIT.fullmatch(word)
    if limit is not None:
        return limit_sentence(limit)
    head = re.split(r"[,(_ ]", word)[0]
    if head in _REASONS:
        return f"{_REASONS[head]} ({word})"
    return f"waits; Slurm's reason is {word}"


def limit_sentence(limit: re.Match[str]) -> str:
    """Which limit holds a job, as the end of the sentence "the job …"."""
    what = _COUNTED.get(limit["what"].lower(), limit["what"])
    owner = "the QOS" if limit["owner"] == "QOS" else "the account or user"
    scope = _SCOPES.get(limit["scope"] or "", "")
    if limit["kind"] == "Grp":
        return f"waits because {owner} may use only so many {what} at once in all ({limit[0]})"
    waits = limit["what"].lower() in ("jobs", "job", "submit", "submitjobs") or limit["scope"] in ("PerUser", "PU")
    if limit["kind"] == "Max" and waits:
        return f"waits because {owner} allows only so many {what}{scope} ({limit[0]})"
    bound = "less" if limit["kind"] == "Min" else "more"
    return f"asks for {bound} {what} than {owner} allows in one job, so it will never start ({limit[0]})"
