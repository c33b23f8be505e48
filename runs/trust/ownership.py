"""Who owns a file, and who else may write to it: the facts on which trust in a folder rests."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import shlex
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_ROOT = 0


class Fault(str, Enum):
    """Why a file deserves no trust."""

    OWNER = "owner"  # it belongs to another user
    WRITABLE = "writable"  # other users may write to it
    KIND = "kind"  # a link, a FIFO or another special file where a file or folder is expected


@dataclass(frozen=True)
class Doubt:
    """A file that other users control, or may control. ``owner`` is a user id."""

    path: Path
    fault: Fault
    owner: int

    def __str__(self) -> str:
        return f"{self.path} {self.reason}"

    @property
    def reason(self) -> str:
        """What is wrong with the file, without its path."""
        texts = {
            Fault.OWNER: f"belongs to {user_name(self.owner)}",
            Fault.WRITABLE: "may be written by other users",
            Fault.KIND: "is neither a folder nor a regular file",
        }
        return texts[self.fault]

    @property
    def remedy(self) -> str:
        """What makes the file trustworthy again; the command can be pasted, whatever the path holds."""
        path = shlex.quote(str(self.path))
        return f"chmod -R go-w {path}" if self.fault is Fault.WRITABLE else f"remove {path}"


def user_name(user: int) -> str:
    """The name of a user id, or the id itself.

    >>> user_name(0)
    'root'
    """
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"


def trusted_owners(environment: Mapping[str, str] = os.environ, user: int | None = None) -> frozenset[int]:
    """The users whose files this user trusts: the user, root, and for root the caller of sudo (as git does).

    >>> sorted(trusted_owners({}, 1000))
    [0, 1000]
    >>> sorted(trusted_owners({"SUDO_UID": "1000"}, 0))
    [0, 1000]
    >>> sorted(trusted_owners({"SUDO_UID": "1001"}, 1000))
    [0, 1000]
    """
    me = os.geteuid() if user is None else user
    sudo = environment.get("SUDO_UID", "")
    return frozenset({me, _ROOT, *([int(sudo)] if me == _ROOT and sudo.isdecimal() else [])})


def find_doubt(path: Path) -> Doubt | None:
    """Examine a file or folder without following a link.

    A link counts by its owner: only the owner of a folder can put a trusted link into it. A sticky folder that others
    may write to is trusted: they can replace only what is theirs.

    Returns:
        Why other users may decide what is in ``path``; ``None`` if only this user and root can, or if it is missing.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    if found.st_uid not in trusted_owners():
        return Doubt(path, Fault.OWNER, found.st_uid)
    if stat.S_ISLNK(found.st_mode):
        return None
    if not (stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode)):
        return Doubt(path, Fault.KIND, found.st_uid)
    sticky = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX
    return Doubt(path, Fault.WRITABLE, found.st_uid) if others_may_write(path, found) and not sticky else None


def others_may_write(path: Path, found: os.stat_result) -> bool:
    """Whether users other than the owner may write to ``path``; a group of only the owner is nobody else."""
    if found.st_mode & stat.S_IWOTH:
        return True
    if not found.st_mode & stat.S_IWGRP:
        return False
    return not _private_group(found.st_uid, found.st_gid) or _has_list(path)


def _private_group(user: int, group: int) -> bool:
    """Whether the group is the user's own, as many distributions create it for every user."""
    with contextlib.suppress(KeyError):
        owner, found = pwd.getpwuid(user), grp.getgrgid(group)
        return owner.pw_gid == group and found.gr_name == owner.pw_name and set(found.gr_mem) <= {owner.pw_name}
    return False


def _has_list(path: Path) -> bool:
    """Whether an access control list may give write permission to other users (acl(5))."""
    with contextlib.suppress(OSError):
        return "system.posix_acl_access" in os.listxattr(path, follow_symlinks=False)
    return False


def close_to_others(folder: Path) -> None:
    """Take the permission to write from everybody but the owner, for a folder and all that is in it."""
    for path in (folder, *folder.rglob("*")):
        mode = path.lstat().st_mode
        if mode & _OTHERS_WRITE and not stat.S_ISLNK(mode):
            path.chmod(stat.S_IMODE(mode) & ~_OTHERS_WRITE)


class DubiousFolderError(Exception):
    """A folder that saman would use for itself is under another user's control."""

    def __init__(self, doubt: Doubt) -> None:
        super().__init__(str(doubt))
        self.doubt = doubt


def own_folder(path: Path, mode: int = 0o700) -> Path:
    """Make, or find, a folder that belongs to this user alone.

    The checks are on the opened folder, so that nobody can exchange it between check and use of its permissions.

    Args:
        path: The folder; its parent may be a world-writable folder such as ``/tmp``.
        mode: Permissions of a new folder; nobody but the owner may ever write.

    Raises:
        DubiousFolderError: Something else is there: a link, a file, another user's folder.
        OSError: It cannot be made or opened.
    """
    with contextlib.suppress(FileExistsError):
        path.mkdir(0o700)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        found = path.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid():
            raise
        fault = Fault.OWNER if found.st_uid != os.geteuid() else Fault.KIND
        raise DubiousFolderError(Doubt(path, fault, found.st_uid)) from None
    try:
        found = os.fstat(descriptor)
        if found.st_uid != os.geteuid():
            raise DubiousFolderError(Doubt(path, Fault.OWNER, found.st_uid))
        if stat.S_IMODE(found.st_mode) != mode:
            os.fchmod(descriptor, mode & ~_OTHERS_WRITE)
    finally:
        os.close(descriptor)
    return path
