"""Reads the limits of associations and QOS, and their use, from what Slurm prints. Pure.

``scontrol show assoc_mgr`` prints both as ``limit(used)``; it prints nothing if accounting is off.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from saman.slurm.site import client


class Scope(str, Enum):
    """The jobs over which a limit counts."""

    JOB = "one job"
    NODE = "one node of a job"
    USER = "all jobs of one user"
    ACCOUNT = "all jobs of one account"
    GROUP = "all jobs together"


@dataclass(frozen=True)
class Limit:
    """A limit. ``amount`` and ``used`` are in the resource's unit: MiB, minutes, resource-minutes, else a count."""

    owner: str  # "QOS normal", "account physics", "you in account physics"
    name: str
    resource: str  # cpu, node, mem, gres/gpu, wall, jobs, submit, cpu-minutes, …
    scope: Scope
    amount: float
    used: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "owner": self.owner, "name": self.name, "resource": self.resource, "scope": self.scope.value,
            "limit": self.amount, "used": self.used,
        }  # fmt: skip


_JOB_COUNTS = {"Jobs": "jobs", "SubmitJobs": "submit"}
_TRES = re.compile(r"([\w/:.-]+)=(N|\d+(?:\.\d+)?)(?:\((\d+(?:\.\d+)?)\))?")
_NUMBER = re.compile(r"(N|\d+(?:\.\d+)?)?(?:\((\d+(?:\.\d+)?)\))?")
_SUFFIXES = {
    "PJ": Scope.JOB, "PN": Scope.NODE, "PU": Scope.USER, "PA": Scope.ACCOUNT, "": Scope.USER,
}  # fmt: skip


def read_limits(text: str, account: str | None, qos: Iterable[str], uid: int) -> list[Limit]:
    """The limits that apply to a user's jobs.

    Args:
        text: the output of ``scontrol -o show assoc_mgr``.
        account: the account of the jobs, if known.
        qos: names of the QOS that apply.
        uid: the user's number.
    """
    found: list[Limit] = []
    parents = _ancestors(text, account)
    wanted = set(qos)
    for line in text.splitlines():
        if line.startswith("ClusterName="):
            owner = _association_owner(client.fields_of(line), account, parents, uid)
            if owner:
                found += _limits(owner, client.fields_of(line))
        elif line.startswith("QOS="):
            name = re.sub(r"\(\d+\)$", "", line.split(" ", 1)[0].removeprefix("QOS="))
            if name in wanted:
                found += _limits(f"QOS {name}", client.fields_of(_own_record(line, account, uid)))
    return found


PER_USER = ("MaxJobsPU", "MaxSubmitJobsPU", "MaxTRESPU", "MaxJobsPA", "MaxSubmitJobsPA", "MaxTRESPA")


def unused_limits(text: str, known: Iterable[Limit]) -> list[Limit]:
    """Limits per user and account in the output of ``sacctmgr -nP show qos format=Name,…`` that are not ``known``.

    The controller does not list them before the first job under a QOS; none of them is used then.
    """
    have = {(limit.owner, limit.name, limit.resource) for limit in known}
    found = []
    for line in text.splitlines():
        name, *values = line.split("|")
        for limit in _limits(f"QOS {name}", dict(zip(PER_USER, values, strict=False))):
            if (limit.owner, limit.name, limit.resource) not in have:
                found.append(replace(limit, used=0.0))
    return found


def _association_owner(fields: Mapping[str, str], account: str | None, parents: set[str], uid: int) -> str | None:
    user = fields.get("UserName", "")
    here = fields.get("Account", "")
    if user:
        mine = re.search(rf"\({uid}\)$", user) is not None
        return f"you in account {here}" if mine and here == account else None
    return f"account {here}" if here in parents else None


def parent_account(text: str, account: str | None) -> str | None:
    """The account above ``account``, from the output of ``scontrol -o show assoc_mgr``; ``None`` at the root."""
    return (_parents(text).get(account) or None) if account else None


def _parents(text: str) -> dict[str, str]:
    """The account above each account; empty at the root."""
    return {
        fields.get("Account", ""): re.sub(r"\(\d+\)$", "", fields.get("ParentAccount", ""))
        for line in text.splitlines()
        if line.startswith("ClusterName=") and not (fields := client.fields_of(line)).get("UserName")
    }


def _ancestors(text: str, account: str | None) -> set[str]:
    """The account and those above it."""
    parent = _parents(text)
    found: set[str] = set()
    while account and account not in found:
        found.add(account)
        account = parent.get(account)
    return found


def _own_record(line: str, account: str | None, uid: int) -> str:
    """A QOS record with the blocks of this account and user unpacked into plain fields, and no others."""
    head, _, blocks = line.partition(" Account Limits=")
    accounts, _, users = blocks.partition(" User Limits=")
    kept = [head]
    kept += [body for name, body in re.findall(r"(\S+)=\{([^}]*)\}", accounts) if name == account]
    kept += [body for name, body in re.findall(r"(\S+)=\{([^}]*)\}", users) if re.search(rf"(^|\(){uid}\)?$", name)]
    return " ".join(kept)


_LIMIT_NAME = re.compile(r"(Grp|Max)(Jobs|SubmitJobs|Wall|TRES|TRESMins|TRESRunMins)(PJ|PN|PU|PA)?")
_UNITS = {"TRES": "", "TRESMins": "-minutes", "TRESRunMins": "-minutes running"}


def _limits(owner: str, fields: Mapping[str, str]) -> Iterator[Limit]:
    for name, value in fields.items():
        match = _LIMIT_NAME.fullmatch(name)
        if match is None:
            continue
        scope = Scope.GROUP if match[1] == "Grp" else _SUFFIXES[match[3] or ""]
        if match[2] in _UNITS:
            yield from _tres_limits(owner, name, scope, _UNITS[match[2]], value)
        elif (number := _NUMBER.fullmatch(value)) is not None and number[1] not in (None, "", "N"):
            resource = "wall" if match[2] == "Wall" else _JOB_COUNTS[match[2]]
            yield _limit(owner, name, resource, scope, number[1], number[2])


def _tres_limits(owner: str, name: str, scope: Scope, unit: str, value: str) -> Iterator[Limit]:
    """The limits in ``cpu=600(300),gres/gpu=16(4)``."""
    for resource, limit, used in _TRES.findall(value):
        if limit != "N":
            yield _limit(owner, name, resource + unit, scope, limit, used)


def _limit(owner: str, name: str, resource: str, scope: Scope, amount: str, used: str | None) -> Limit:
    return Limit(owner, name, resource, scope, amount=float(amount), used=float(used) if used else None)
