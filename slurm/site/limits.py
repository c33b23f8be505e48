"""Limits of associations and QOS that count for a user, and what is used of them.

``scontrol show assoc_mgr`` says both in one answer, as ``limit(used)``; where accounting is off it says nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from saman.slurm.site import client


class Scope(str, Enum):
    """Over what a limit counts."""

    JOB = "one job"
    NODE = "one node of a job"
    USER = "all jobs of one user"
    ACCOUNT = "all jobs of one account"
    GROUP = "all jobs together"


@dataclass(frozen=True)
class Limit:
    """One limit. ``amount`` and ``used`` are in the resource's unit: MiB, minutes, resource-minutes, else a count."""

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
    """The limits in the output of ``scontrol -o show assoc_mgr`` that apply to the user in ``account`` with ``qos``."""
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
                found += _limits(f"QOS {name}", client.fields_of(_mine(line, account, uid)))
    return found


_PER_USER = ("MaxJobsPU", "MaxSubmitJobsPU", "MaxTRESPU", "MaxJobsPA", "MaxSubmitJobsPA", "MaxTRESPA")


def unused_limits(text: str, known: Iterable[Limit]) -> list[Limit]:
    """Limits per user and account in the output of ``sacctmgr -nP show qos format=Name,…`` that are not ``known``.

    The controller does not tell them before the first job under a QOS; nothing of them is used then.
    """
    have = {(one.owner, one.name, one.resource) for one in known}
    found = []
    for line in text.splitlines():
        name, *values = line.split("|")
        for limit in _limits(f"QOS {name}", dict(zip(_PER_USER, values, strict=False))):
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


def _ancestors(text: str, account: str | None) -> set[str]:
    """The account and those above it."""
    parent = {
        fields.get("Account", ""): re.sub(r"\(\d+\)$", "", fields.get("ParentAccount", ""))
        for line in text.splitlines()
        if line.startswith("ClusterName=") and not (fields := client.fields_of(line)).get("UserName")
    }
    found: set[str] = set()
    while account and account not in found:
        found.add(account)
        account = parent.get(account)
    return found


def _mine(line: str, account: str | None, uid: int) -> str:
    """A QOS record with only this account's and this user's own blocks, unpacked into plain fields."""
    head, _, blocks = line.partition(" Account Limits=")
    accounts, _, users = blocks.partition(" User Limits=")
    kept = [head]
    kept += [body for name, body in re.findall(r"(\S+)=\{([^}]*)\}", accounts) if name == account]
    kept += [body for name, body in re.findall(r"(\S+)=\{([^}]*)\}", users) if re.search(rf"(^|\(){uid}\)?$", name)]
    return " ".join(kept)


def _limits(owner: str, fields: Mapping[str, str]) -> Iterator[Limit]:
    for name, value in fields.items():
        match = re.fullmatch(r"(Grp|Max)(Jobs|SubmitJobs|Wall|TRES|TRESMins|TRESRunMins)(PJ|PN|PU|PA)?", name)
        if match is None:
            continue
        scope = Scope.GROUP if match[1] == "Grp" else _SUFFIXES[match[3] or ""]
        if match[2].startswith("TRES"):
            unit = {"TRES": "", "TRESMins": "-minutes", "TRESRunMins": "-minutes running"}[match[2]]
            for resource, limit, used in _TRES.findall(value):
                if limit != "N":
                    yield Limit(owner, name, resource + unit, scope, float(limit), float(used) if used else None)
            continue
        number = _NUMBER.fullmatch(value)
        if number is not None and number[1] not in (None, "", "N"):
            resource = "wall" if match[2] == "Wall" else _JOB_COUNTS[match[2]]
            yield Limit(owner, name, resource, scope, float(number[1]), float(number[2]) if number[2] else None)


@dataclass(frozen=True)
class UserLimits:
    """What Slurm says of the user: the account and QOS that count, and every limit on them."""

    account: str | None
    qos: tuple[str, ...]
    limits: tuple[Limit, ...]
    known: bool  # False where accounting is off or closed to users


def standing(account: str | None, qos: str | None, partition: str | None = None) -> UserLimits:
    """The limits that count for this user's jobs; ``account`` and ``qos`` default to the user's own defaults."""
    uid = os.getuid()
    default_account, default_qos = _defaults(account)
    account = account or default_account
    names = [name for name in (qos or default_qos, _partition_qos(partition)) if name]
    answer = client.ask(["scontrol", "-o", "show", "assoc_mgr", "flags=assoc,qos"])
    if answer.code != 0 or "Association Records" not in answer.out:
        return UserLimits(account, tuple(names), (), False)
    found = read_limits(answer.out, account, names, uid)
    if names:
        columns = ",".join(["Name", *_PER_USER])
        listed = client.ask(["sacctmgr", "-n", "-P", "show", "qos", ",".join(names), f"format={columns}"])
        found += unused_limits(listed.out, found) if listed.code == 0 else []
    return UserLimits(account, tuple(names), tuple(found), True)


def _defaults(account: str | None) -> tuple[str | None, str | None]:
    """The user's default account, and the default QOS in ``account`` (Slurm takes ``normal`` where none is set)."""
    user = client.user_name()
    answer = client.ask(
        ["sacctmgr", "-n", "-P", "show", "user", user, "withassoc", "format=DefaultAccount,Account,DefaultQOS,QOS"]
    )
    if answer.code != 0:
        return None, None
    rows = [line.split("|") for line in answer.lines if line.count("|") == 3]
    default = next((row[0] for row in rows if row[0]), None)
    mine = [row for row in rows if row[1] == (account or default)]
    qos = next((row[2] for row in mine if row[2]), None)
    if qos is None and mine:
        allowed = mine[0][3].split(",")
        qos = "normal" if "normal" in allowed else allowed[0] if len(allowed) == 1 else None
    return default, qos


def _partition_qos(partition: str | None) -> str | None:
    if partition is None:
        return None
    answer = client.ask(["scontrol", "-o", "show", "partition", partition])
    name = client.fields_of(answer.lines[0]).get("QoS", "N/A") if answer.code == 0 and answer.lines else "N/A"
    return None if name in ("N/A", "") else name
