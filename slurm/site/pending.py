"""Slurm's reasons why a job is pending or refused, in plain words. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum


class Wait(str, Enum):
    """What has to happen before a pending job starts."""

    SLURM = "slurm"  # its scheduler places the job in time
    USER = "user"  # until a user releases the job, or changes its dependency
    NEVER = "never"  # the request cannot be met as it is


@dataclass(frozen=True)
class PendingReason:
    """Why a job is pending. ``text`` is the end of the sentence "the job …"."""

    wait: Wait
    text: str


_REASONS = {
    "Resources": (Wait.SLURM, "waits for nodes to become free"),
    "Priority": (Wait.SLURM, "waits behind jobs of higher priority"),
    "None": (Wait.SLURM, "waits for the scheduler"),
    "BeginTime": (Wait.SLURM, "waits for its begin time (a moment, after a requeue)"),
    "Dependency": (Wait.SLURM, "waits for another job to end"),
    "DependencyNeverSatisfied": (Wait.NEVER, "depends on a job that ended otherwise, so it will never start"),
    "JobHeldUser": (Wait.USER, "is held; release it with `scontrol release`"),
    "JobHeldAdmin": (Wait.USER, "is held by the administrators"),
    "JobArrayTaskLimit": (Wait.SLURM, "waits because only so many tasks of this array may run at once"),
    "ReqNodeNotAvail": (Wait.SLURM, "waits for nodes that are down, reserved or in maintenance"),
    "Reservation": (Wait.SLURM, "waits for its reservation to begin"),
    "ReservationDeleted": (Wait.NEVER, "asks for a reservation that no longer exists, so it will never start"),
    "PartitionDown": (Wait.SLURM, "waits because the partition is closed"),
    "PartitionInactive": (Wait.SLURM, "waits because the partition is inactive"),
    "PartitionNodeLimit": (Wait.NEVER, "asks for more nodes than the partition allows, so it will never start"),
    "PartitionTimeLimit": (Wait.NEVER, "asks for more time than the partition allows, so it will never start"),
    "BadConstraints": (Wait.NEVER, "asks for a constraint that no node meets, so it will never start"),
    "InvalidAccount": (Wait.NEVER, "names an invalid account, so it will never start"),
    "InvalidQOS": (Wait.NEVER, "names an invalid QOS, so it will never start"),
    "Licenses": (Wait.SLURM, "waits for licences"),
    "Cleaning": (Wait.SLURM, "waits for its previous start to be cleaned up"),
    "NodeDown": (Wait.SLURM, "waits for a node that is down"),
    "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions": (
        Wait.SLURM, "waits for nodes that are down, drained or reserved for jobs of higher priority"
    ),
    "launch failed requeued held": (Wait.USER, "failed to start and is held; retry with `scontrol release`"),
}  # fmt: skip
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
_LIMIT = re.compile(
    r"(?P<owner>QOS|Assoc)(?P<kind>Grp|Max|Min)(?P<what>[A-Za-z]+?)"
    r"(?P<scope>PerJob|PerNode|PerUser|PerAccount|PerAcct|PU|PA)?(?:Limit)?"
)


@dataclass(frozen=True)
class BrokenLimit:
    """A limit that Slurm names as the reason: ``QOSMaxCpuPerUserLimit`` and the like."""

    name: str
    owner: str
    kind: str  # Grp, Max or Min
    resource: str
    scope: str
    counts_jobs: bool

    @property
    def wait(self) -> Wait:
        """A limit over several jobs passes with time; a limit on one job does not."""
        several = self.kind == "Grp" or (self.kind == "Max" and (self.counts_jobs or self.scope in ("PerUser", "PU")))
        return Wait.SLURM if several else Wait.NEVER

    def sentence(self) -> str:
        """The limit, as a main clause."""
        if self.kind == "Grp":
            return f"{self.owner} may use only so many {self.resource} at once in all ({self.name})"
        if self.wait is Wait.SLURM:
            return f"{self.owner} allows only so many {self.resource}{_SCOPES.get(self.scope, '')} ({self.name})"
        bound = "less" if self.kind == "Min" else "more"
        return f"it asks for {bound} {self.resource} than {self.owner} allows in one job ({self.name})"


def find_limit(text: str) -> BrokenLimit | None:
    """The first limit that Slurm's text names."""
    match = next((found for word in re.findall(r"\w+", text) if (found := _LIMIT.fullmatch(word))), None)
    if match is None:
        return None
    what = match["what"].lower()
    return BrokenLimit(
        name=match[0],
        owner="the QOS" if match["owner"] == "QOS" else "the account or user",
        kind=match["kind"],
        resource=_COUNTED.get(what, match["what"]),
        scope=match["scope"] or "",
        counts_jobs=what in ("jobs", "job", "submit", "submitjob", "submitjobs"),
    )


def pending_reason(slurm: str) -> PendingReason:
    """Slurm's reason in plain words; a reason that this version does not know is quoted."""
    word = slurm.strip().strip("()") or "None"
    if word in _REASONS:
        return PendingReason(*_REASONS[word])
    limit = find_limit(word) if re.fullmatch(r"\w+", word) else None
    if limit is not None:
        never = limit.wait is Wait.NEVER
        clause = limit.sentence()
        return PendingReason(limit.wait, f"will never start, because {clause}" if never else f"waits because {clause}")
    head = re.split(r"[,(_ ]", word)[0]
    if head in _REASONS:
        wait, text = _REASONS[head]
        return PendingReason(wait, f"{text} ({word})")
    return PendingReason(Wait.SLURM, f"waits; Slurm's reason is {word}")
