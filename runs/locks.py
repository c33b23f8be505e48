"""File locks: the one place that takes, waits for and queries them.

Locks are advisory, lie on whole files, and end with the process that holds them, also when it is killed. They are Linux
open file description locks (``F_OFD_SETLK``, fcntl(2)), because these alone

- tell whether a lock is held without taking it (``F_OFD_GETLK``), so a probe never keeps a real start from its lock;
- belong to the opened file: two threads exclude each other, and closing another descriptor releases nothing
  (both fail with POSIX locks);
- reach other nodes through NFS like POSIX locks, where the server has locking.

A file keeps the name of its last exclusive holder; the name is true only while the lock is held.

Where the file system has no locks, or ``SAMAN_LOCKS=lease`` says that they do not reach other nodes (Lustre with
``-o localflock``), a lease takes their place (``runs.files.leases``), and a message says so once. A lease is exclusive,
also for those that ask for a shared lock.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import re
import socket
import stat
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from saman.runs import variables
from saman.runs.files.leases import LEASE_SECONDS, Lease, lease_file, read_lease, take_lease

_FLOCK = struct.Struct("hhqqi4x")  # struct flock: type, whence, start, length (0: to the end), process
_LONGEST_PAUSE = 0.5
# What fcntl(2) answers where a file system has no locks, or no open file description locks.
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL})
LEASE = "lease"
_said = False  # that leases take the place of locks
_log = logging.getLogger(__name__)
# A link in a folder that others write to may lead anywhere, and opening a planted FIFO would wait for ever.
_SAFE = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock, by its own record; ``pid`` is ``None`` if the record cannot be read."""

    pid: int | None = None
    host: str = ""

    def __str__(self) -> str:
        return "another process" if self.pid is None else f"process {self.pid} on {self.host}"


class LockHeldError(Exception):
    """Another process holds the lock."""

    def __init__(self, path: Path, holder: Holder) -> None:
        super().__init__(f"{path} is locked by {holder}")
        self.path, self.holder = path, holder


class HeldLock:
    """A lock that this process holds until ``release``; on a file system without locks, a ``lease``."""

    def __init__(self, descriptor: int, lease: Lease | None = None) -> None:
        self._descriptor: int | None = descriptor
        self.lease = lease

    def release(self) -> None:
        """Release the lock; a second call does nothing."""
        if self._descriptor is not None:
            if self.lease is not None:
                self.lease.release()
            os.close(self._descriptor)
            self._descriptor = None


def acquire(
    path: Path,
    *,
    shared: bool = False,
    wait_seconds: float | None = 0.0,
    waiting: Callable[[Holder], None] | None = None,
    mode: int = 0o664,
    lost: Callable[[], None] | None = None,
    this_machine: bool = False,
) -> HeldLock:
    """Take the lock on ``path``; the file and its folder are created where they are missing.

    Args:
        path: The file that carries the lock. It is never deleted.
        shared: Exclude exclusive holders only.
        wait_seconds: How long to wait for another holder; ``None`` waits without a limit.
        waiting: Called once, with the holder, before waiting.
        mode: Permissions of a new file, within the umask: who may read it may also hold it.
        lost: Called from another thread when another process took over the lease that replaces the lock.
        this_machine: Whether only processes of this machine take the lock, so that ``SAMAN_LOCKS`` does not matter.

    Returns:
        The lock.

    Raises:
        LockHeldError: Another process still holds the lock after ``wait_seconds``.
        OSError: The file cannot be opened, or is no regular file.
    """
    descriptor = _open(path, mode)
    try:
        has_locks = _take_lock(path, descriptor, shared, wait_seconds, waiting)
        lease = None
        if not has_locks or (_wants_lease() and not this_machine) or lease_file(path).exists():
            _say_once(path, has_locks)
            if waiting is not None and wait_seconds != 0 and (other := _lease_holder(path)) is not None:
                waiting(other)
            lease = take_lease(path, wait_seconds, lost)
            if lease is None:
                raise LockHeldError(path, _lease_holder(path) or Holder())
        if not shared:
            _sign(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return HeldLock(descriptor, lease)


def _take_lock(
    path: Path,
    descriptor: int,
    shared: bool,
    wait_seconds: float | None,
    waiting: Callable[[Holder], None] | None,
) -> bool:
    """Take the lock; returns whether the file system has locks. Raises ``LockHeldError`` as ``acquire``."""
    try:
        if _try(descriptor, shared):
            return True
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return False
    if wait_seconds is not None and wait_seconds <= 0:
        raise LockHeldError(path, _holder(descriptor))
    holder = _holder(descriptor)
    _log.debug("waiting for %s, held by %s", path, holder)
    if waiting is not None:
        waiting(holder)
    _wait(path, descriptor, shared, wait_seconds)
    return True


def _wants_lease() -> bool:
    return os.environ.get(variables.LOCKS) == LEASE


def _say_once(path: Path, has_locks: bool) -> None:
    global _said
    if not (_said or has_locks):
        _said = True
        _log.warning(
            "%s is on a file system without locks; leases take their place, which other nodes see %g s after a crash"
            " (mount it with -o flock for locks)", path.parent, LEASE_SECONDS,
        )  # fmt: skip


def _lease_holder(path: Path) -> Holder | None:
    """The process with the lease on ``path``; ``None`` without a lease, or if the process is known to have ended."""
    lease = read_lease(path)
    return None if lease is None or lease.is_dead else Holder(lease.pid, lease.host)


@contextlib.contextmanager
def hold(
    path: Path,
    *,
    shared: bool = False,
    wait_seconds: float | None = 0.0,
    waiting: Callable[[Holder], None] | None = None,
    mode: int = 0o664,
    lost: Callable[[], None] | None = None,
    this_machine: bool = False,
) -> Iterator[None]:
    """Hold the lock on ``path``; the arguments and errors are those of ``acquire``."""
    lock = acquire(
        path, shared=shared, wait_seconds=wait_seconds, waiting=waiting, mode=mode, lost=lost, this_machine=this_machine
    )
    try:
        yield
    finally:
        lock.release()


def holder_of(path: Path) -> Holder | None:
    """Name the process that holds the lock on ``path``, without touching the lock.

    Returns:
        The holder; ``None`` if the lock is free, or if the file system cannot say.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | _SAFE)
    except OSError:
        return None
    try:
        _require_regular(path, descriptor)
        answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        return _lease_holder(path) if _FLOCK.unpack(answer)[0] == fcntl.F_UNLCK else _holder(descriptor)
    except OSError:
        return _lease_holder(path)
    finally:
        os.close(descriptor)


def has_locks(folder: Path) -> bool:
    """Whether the file system of ``folder`` has locks; raises ``OSError`` if no file can be made there."""
    with tempfile.NamedTemporaryFile(prefix=".saman-", dir=folder) as file:
        try:
            return _try(file.fileno(), shared=False)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            return False


def _open(path: Path, mode: int) -> int:
    # Not O_CREAT at first: in a sticky folder it is refused for another user's file (sysctl fs.protected_regular).
    while True:
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_RDWR | _SAFE)
            try:
                _require_regular(path, descriptor)
            except OSError:
                os.close(descriptor)
                raise
            return descriptor
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _SAFE, mode)


def _require_regular(path: Path, descriptor: int) -> None:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise OSError(errno.EINVAL, "is no regular file; remove it", str(path))


def _try(descriptor: int, shared: bool, command: int = fcntl.F_OFD_SETLK) -> bool:
    kind = fcntl.F_RDLCK if shared else fcntl.F_WRLCK
    try:
        fcntl.fcntl(descriptor, command, _FLOCK.pack(kind, os.SEEK_SET, 0, 0, 0))
    except (BlockingIOError, PermissionError):  # EAGAIN or EACCES, fcntl(2)
        return False
    return True


def _wait(path: Path, descriptor: int, shared: bool, seconds: float | None) -> None:
    if seconds is None:
        _try(descriptor, shared, fcntl.F_OFD_SETLKW)
        return
    deadline, pause = time.monotonic() + seconds, 0.01
    while not _try(descriptor, shared):
        left = deadline - time.monotonic()
        if left <= 0:
            raise LockHeldError(path, _holder(descriptor))
        time.sleep(min(pause, left))
        pause = min(2 * pause, _LONGEST_PAUSE)


def _sign(descriptor: int) -> None:
    # The name only informs users: on a full disk the lock works without it.
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)


def _holder(descriptor: int) -> Holder:
    with contextlib.suppress(OSError):
        found = re.match(rb"process (\d+) on (\S+)", os.pread(descriptor, 300, 0))
        if found:
            return Holder(int(found[1]), found[2].decode(errors="replace"))
    return Holder()
