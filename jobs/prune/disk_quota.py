"""The user's quota on a file system, as the site's ``lfs`` or ``quota`` prints it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from saman.runs.commands import COMMAND_ERRORS, run_command
from saman.slurm.site.client import user_name

_KIB = 1024
_SECONDS = 20.0
_COLUMNS = 8  # used, soft, hard, grace: of blocks, then of files


@dataclass(frozen=True)
class DiskQuota:
    """The use of a file system by this user, and its limits; ``None`` without a limit. A soft limit counts."""

    bytes: int
    byte_limit: int | None
    inodes: int
    inode_limit: int | None


def read_quota_of(folder: Path) -> DiskQuota | None:
    """Ask for the quota of this user on the file system of a folder; ``None`` where the site has no such command."""
    mount = str(mount_of(folder))
    # quota(1) and lfs-quota(1); both count blocks of 1 KiB.
    for command in (
        ["lfs", "quota", "-q", "-u", user_name(), mount],
        ["quota", "-w", "-p", "--show-mntpoint", "--hide-device", "-f", mount],
    ):
        try:
            said = run_command(command, timeout_seconds=_SECONDS).stdout
        except COMMAND_ERRORS:
            continue
        if (found := parse_quota(said, mount)) is not None:
            return found
    return None


def parse_quota(text: str, mount: str) -> DiskQuota | None:
    """Read a file system's line of ``quota``; ``*`` marks a value over its limit, 0 is no limit.

    >>> parse_quota("/home  1024*  512  2048  6days  10  0  20  -", "/home")
    DiskQuota(bytes=1048576, byte_limit=524288, inodes=10, inode_limit=20)
    """
    words = text.split()
    for at, word in enumerate(words):
        if word == mount and len(values := words[at + 1 : at + 1 + _COLUMNS]) >= _COLUMNS - 1:
            numbers = [int(each.rstrip("*")) if re.fullmatch(r"\d+\*?", each) else None for each in values]
            used, files = numbers[0], numbers[4]
            if used is not None and files is not None:
                blocks = _limit(numbers[1:3])
                return DiskQuota(used * _KIB, None if blocks is None else blocks * _KIB, files, _limit(numbers[5:7]))
    return None


def _limit(soft_and_hard: Sequence[int | None]) -> int | None:
    return min((each for each in soft_and_hard if each), default=None)


def mount_of(folder: Path) -> Path:
    """The mount point of the file system whose quota counts for a folder, or will."""
    path = folder.absolute().resolve()
    while not os.path.ismount(path):
        path = path.parent
    return path
