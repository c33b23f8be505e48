"""The kernel's means of confinement that an ordinary user has: namespaces, seccomp and Landlock, through libc."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Sequence
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_NEW_NETWORK, _NEW_USER = 0x40000000, 0x10000000  # CLONE_NEWNET, CLONE_NEWUSER
_NO_NEW_PRIVILEGES, _SECCOMP, _DEATH_SIGNAL, _FILTER = 38, 22, 1, 2  # prctl(2)
_SIGKILL = 9

# seccomp(2), linux/audit.h: the architecture, and the numbers of the system calls that are refused.
_REFUSED = {
    "x86_64": (0xC000003E, {
        "socket": 41, "connect": 42, "accept": 43, "bind": 49, "listen": 50, "accept4": 288, "ptrace": 101,
        "process_vm_readv": 310, "process_vm_writev": 311, "add_key": 248, "request_key": 249, "keyctl": 250,
        "io_uring_setup": 425,
    }),
    "aarch64": (0xC00000B7, {
        "socket": 198, "connect": 203, "accept": 202, "bind": 200, "listen": 201, "accept4": 242, "ptrace": 117,
        "process_vm_readv": 270, "process_vm_writev": 271, "add_key": 217, "request_key": 218, "keyctl": 219,
        "io_uring_setup": 425,
    }),
}  # fmt: skip
_X32 = 0x40000000  # bit of the x32 system calls, a second way to each call on x86_64
_ALLOW, _ANSWER_EPERM = 0x7FFF0000, 0x00050001
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06  # linux/bpf_common.h

# landlock(7): the accesses to files that change something, by the version of Landlock that knows them.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_CHANGES = sum(1 << bit for bit in (1, 4, 5, 6, 7, 8, 9, 10, 11, 12))
_REFER, _TRUNCATE = 1 << 13, 1 << 14
_OF_FILES = (1 << 1) | _TRUNCATE


def _check(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def die_with_parent() -> None:
    """Let the kernel kill this confined process when its parent ends.

    Raises ``OSError`` where the kernel refuses, unlike ``runs.ranks.parent_death``, because confinement reports it.
    """
    _check(_libc.prctl(_DEATH_SIGNAL, _SIGKILL, 0, 0, 0))


def leave_network() -> None:
    """Enter a network namespace without any device. Raises ``OSError`` where the system does not let users."""
    user, group = os.geteuid(), os.getegid()
    if user == 0:
        _check(_libc.unshare(_NEW_NETWORK))
        return
    _check(_libc.unshare(_NEW_USER | _NEW_NETWORK))
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")


def refuse_system_calls() -> None:
    """Refuse sockets and access to other processes, for this process and all that it starts.

    Raises:
        OSError: The kernel has no seccomp, or saman does not know the processor's system calls.
    """
    known = _REFUSED.get(platform.machine())
    if known is None:
        raise OSError(f"the system calls of {platform.machine()} are not known")
    program = _filter(*known)
    code = ctypes.create_string_buffer(program)
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    _check(_libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0))
    _check(_libc.prctl(_SECCOMP, _FILTER, header, 0, 0))


def _filter(architecture: int, calls: dict[str, int]) -> bytes:
    """The BPF program: refuse another architecture, x32 and the named calls; allow the rest."""
    numbers = sorted(calls.values())
    rest = len(numbers) + 1  # from here to the refusal at the end
    lines = [(_LOAD, 0, 0, 4), (_EQUAL, 0, rest + 2, architecture), (_LOAD, 0, 0, 0), (_AT_LEAST, rest, 0, _X32)]
    lines += [(_EQUAL, len(numbers) - index, 0, number) for index, number in enumerate(numbers)]
    lines += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _ANSWER_EPERM)]
    return b"".join(struct.pack("HBBI", *line) for line in lines)


def write_only_to(folders: Sequence[Path]) -> None:
    """Let this process and all that it starts change files in these folders only.

    Raises:
        OSError: The kernel has no Landlock (before 5.13, or switched off).
    """
    version = _check(_libc.syscall(_CREATE_RULESET, None, 0, 1))
    changes = _CHANGES | (_REFER if version >= 2 else 0) | (_TRUNCATE if version >= 3 else 0)
    attributes = struct.pack("Q", changes)
    rules = _check(_libc.syscall(_CREATE_RULESET, attributes, len(attributes), 0))
    try:
        for folder in (*folders, Path("/dev/null")):
            place = os.open(folder, os.O_PATH | os.O_CLOEXEC)
            allowed = changes if folder.is_dir() else changes & _OF_FILES
            try:
                _check(_libc.syscall(_ADD_RULE, rules, 1, struct.pack("=Qi", allowed, place), 0))
            finally:
                os.close(place)
        _check(_libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0))
        _check(_libc.syscall(_RESTRICT_SELF, rules, 0))
    finally:
        os.close(rules)
