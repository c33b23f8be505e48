"""Asks Slurm for the limits on the user's jobs: association, QOS and partition."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from saman.configs.errors import EnvironmentLack
from saman.slurm.site import client
from saman.slurm.site.limits import PER_USER, Limit, parent_account, read_limits, unused_limits


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
    try:
        return _read(account, qos, partition)
    except EnvironmentLack:  # such as no sacctmgr on this login node
        return UserLimits(account, (qos,) if qos else (), (), False)


def _read(account: str | None, qos: str | None, partition: str | None) -> UserLimits:
    uid = os.getuid()
    default_account, default_qos = _defaults(account)
    account = account or default_account
    names = [name for name in (qos or default_qos, _partition_qos(partition)) if name]
    records = _records(account, names)
    if records is None:
        return UserLimits(account, tuple(names), (), False)
    found = read_limits(records, account, names, uid)
    if names:
        columns = ",".join(["Name", *PER_USER])
        listed = client.ask(["sacctmgr", "-n", "-P", "show", "qos", ",".join(names), f"format={columns}"])
        found += unused_limits(listed.out, found) if listed.code == 0 else []
    return UserLimits(account, tuple(names), tuple(found), True)


_MOST_LEVELS = 16  # of accounts; more than any site nests


def _records(account: str | None, qos: Sequence[str]) -> str | None:
    """The controller's records of the account, of the accounts above it and of these QOS; ``None`` without accounting.

    Without filters the controller prints every association of the site: 10 MB on a large site.
    """
    found: list[str] = []
    above = account
    for level in range(_MOST_LEVELS):
        filters = [f"users={client.user_name()}"]  # keeps the records of accounts too
        filters += [f"accounts={above}"] if above else []
        filters += [f"qos={','.join(qos)}"] if qos else []
        flags = "flags=assoc,qos" if level == 0 and qos else "flags=assoc"
        answer = client.ask(["scontrol", "-o", "show", "assoc_mgr", *filters, flags])
        if answer.code != 0 or "Association Records" not in answer.out:
            return None if level == 0 else "\n".join(found)
        found.append(answer.out)
        above = parent_account(answer.out, above)
        if above is None:
            break
    return "\n".join(found)


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
