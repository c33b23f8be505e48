"""Asks Slurm for the limits on the user's jobs: association, QOS and partition."""

from __future__ import annotations

import os
from dataclasses import dataclass

from saman.slurm.site import client
from saman.slurm.site.limits import PER_USER, Limit, read_limits, unused_limits


@dataclass(frozen=True)
class UserLimits:
    """The account and QOS of the user's jobs, and every limit on them."""

    account: str | None
    qos: tuple[str, ...]
    limits: tuple[Limit, ...]
    known: bool  # False if accounting is off or closed to users


def read_user_limits(account: str | None, qos: str | None, partition: str | None = None) -> UserLimits:
    """Ask Slurm for the limits on this user's jobs.

    Args:
        account: the account; ``None`` for the user's default.
        qos: the QOS; ``None`` for the user's default.
        partition: a partition; the limits of its own QOS count too.
    """
    uid = os.getuid()
    default_account, default_qos = _defaults(account)
    account = account or default_account
    names = [name for name in (qos or default_qos, _partition_qos(partition)) if name]
    answer = client.ask(["scontrol", "-o", "show", "assoc_mgr", "flags=assoc,qos"])
    if answer.code != 0 or "Association Records" not in answer.out:
        return UserLimits(account, tuple(names), (), False)
    found = read_limits(answer.out, account, names, uid)
    if names:
        columns = ",".join(["Name", *PER_USER])
        listed = client.ask(["sacctmgr", "-n", "-P", "show", "qos", ",".join(names), f"format={columns}"])
        found += unused_limits(listed.out, found) if listed.code == 0 else []
    return UserLimits(account, tuple(names), tuple(found), True)


def _defaults(account: str | None) -> tuple[str | None, str | None]:
    """The user's default account, and the default QOS in ``account`` (``normal`` if none is set)."""
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
