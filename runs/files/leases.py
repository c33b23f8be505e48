"""Leases: mutual exclusion on file systems without locks (Lustre without ``-o flock``), for ``runs.locks``.

A lease is a file beside the locked file, made by ``link(2)`` (or ``O_EXCL`` where there are no links), in which only
one process succeeds. Its holder counts up in it every few seconds. A lease of this machine is free when its process has
ended; a lease of another machine when it has not changed for ``LEASE_SECONDS`` by the observer's own clock, because the
clocks of nodes differ. A holder that was stopped for so long is no longer alone when it continues: it is told.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from saman.configs.regular_files import read_regular
from saman.runs.files.whole import parse_json

LEASE_SECONDS, RENEW_SECONDS = 30.0, 5.0
_LOOK_SECONDS = 0.2
_NO_LINK = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
_WIDTH = 12  # digits of the counter, so that it is rewritten in its place


@dataclass(frozen=True)
class LeaseRecord:
    """The content of a lease: its holder, a unique token, and a counter that shows that the holder is alive."""

    pid: int
    host: str
    token: str
    started: int = 0  # of the process, in clock ticks since boot: process ids are used again
    count: str = "0" * _WIDTH

    def text(self) -> bytes:
        """The content of the file; the counter is last, at a fixed width."""
        about = {"pid": self.pid, "host": self.host, "token": self.token, "started": self.started, "count": self.count}
        return json.dumps(about).encode() + b"\n"

    @property
    def is_dead(self) -> bool:
        """Whether its process ran on this machine and has ended."""
        return self.host == socket.gethostname() and _started(self.pid) != self.started


def _started(pid: int) -> int | None:
    """The start of a process, in clock ticks since boot (field 22 of proc(5)'s stat); ``None`` if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


def lease_file(path: Path) -> Path:
    """The lease of the locked file ``path``."""
    return path.with_name(f".{path.name}.lease")


def read_lease(path: Path) -> LeaseRecord | None:
    """The lease on ``path``, whether its holder lives or not; ``None`` if there is none or it is torn."""
    try:
        found = parse_json(read_regular(lease_file(path)))
        return LeaseRecord(
            pid=int(found["pid"]),
            host=str(found["host"]),
            token=str(found["token"]),
            started=int(found["started"]),
            count=str(found["count"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


class Lease:
    """A lease that this process holds, and renews in a thread, until ``release``."""

    def __init__(self, path: Path, descriptor: int, record: LeaseRecord, lost: Callable[[], None] | None) -> None:
        self._file, self._descriptor, self._record, self._lost = lease_file(path), descriptor, record, lost
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    @property
    def is_held(self) -> bool:
        """Whether the file is still this process's own."""
        try:
            return self._file.stat().st_ino == os.fstat(self._descriptor).st_ino
        except OSError:
            return False

    def _renew(self) -> None:
        count = 0
        while not self._ended.wait(RENEW_SECONDS):
            if not self.is_held:
                if self._lost is not None:
                    self._lost()
                return
            count += 1
            at = len(self._record.text()) - _WIDTH - len(b'"}\n')
            with contextlib.suppress(OSError):  # a full disk takes no more bytes for a file that does not grow
                os.pwrite(self._descriptor, f"{count:0{_WIDTH}d}".encode(), at)
                os.fsync(self._descriptor)  # to the server, where the other nodes look

    def release(self) -> None:
        """End the lease; a lease that another process took over stays."""
        if self._ended.is_set():
            return
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            if self.is_held:
                self._file.unlink()
        os.close(self._descriptor)


def take_lease(path: Path, wait_seconds: float | None, lost: Callable[[], None] | None = None) -> Lease | None:
    """Take the lease on ``path``.

    Args:
        path: The locked file.
        wait_seconds: How long to wait for a holder that lives; ``None`` waits without a limit. Whether a holder on
            another machine lives takes up to ``LEASE_SECONDS`` to see, in any case.
        lost: Called from another thread when another process took the lease over.

    Returns:
        The lease; ``None`` if a living holder still has it.
    """
    mine = LeaseRecord(os.getpid(), socket.gethostname(), secrets.token_hex(8), _started(os.getpid()) or 0)
    file, began, observation = lease_file(path), time.monotonic(), _Observation()
    draft = file.with_name(f".{file.name}.{mine.token}.tmp")
    descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    taken = False
    try:
        os.write(descriptor, mine.text())
        os.fsync(descriptor)
        while not (taken := _link(draft, file, mine)):
            found = read_lease(path)
            observation.look(found)
            if observation.is_stale:
                taken = _take_over(draft, file, found, observation)
                if taken:
                    break
            elif observation.is_alive and wait_seconds is not None and time.monotonic() - began >= wait_seconds:
                return None
            time.sleep(_LOOK_SECONDS)
        return Lease(path, descriptor, mine, lost)
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()
        if not taken:
            os.close(descriptor)


class _Observation:
    """The lease of another process as this process has observed it, timed by its own clock."""

    def __init__(self) -> None:
        self._seen: LeaseRecord | None = None
        self._since = time.monotonic()
        self._changes = -1

    def look(self, found: LeaseRecord | None) -> None:
        if self._changes < 0 or found != self._seen:
            self._seen, self._since, self._changes = found, time.monotonic(), self._changes + 1

    @property
    def is_alive(self) -> bool:
        here = self._seen is not None and self._seen.host == socket.gethostname()
        return self._changes > 0 or (here and self._seen is not None and not self._seen.is_dead)

    @property
    def is_stale(self) -> bool:
        if self._seen is not None and self._seen.host == socket.gethostname():
            return self._seen.is_dead  # a stopped process of this machine keeps its lease, as it keeps a lock
        return time.monotonic() - self._since > LEASE_SECONDS

    def waited_long(self) -> bool:
        return time.monotonic() - self._since > 2 * LEASE_SECONDS


def _link(draft: Path, file: Path, mine: LeaseRecord) -> bool:
    try:
        os.link(draft, file)
    except FileExistsError:
        return _holds(file, mine.token)  # NFS may have lost the reply and repeated the call
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        return _rename_alone(draft, file)
    return True


def _rename_alone(draft: Path, file: Path) -> bool:
    """Take the lease without hard links: create an empty file with ``O_EXCL``, then replace it with the draft."""
    try:
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
    except FileExistsError:
        return False
    draft.replace(file)
    return True


def _holds(file: Path, token: str) -> bool:
    try:
        return bool(parse_json(file.read_bytes())["token"] == token)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _take_over(draft: Path, file: Path, stale: LeaseRecord | None, observation: _Observation) -> bool:
    """Replace the lease of a dead holder. The process that creates the marker of this lease wins."""
    marker = file.with_name(f"{file.name}.{stale.token if stale else 'torn'}")
    try:
        os.close(os.open(marker, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
    except FileExistsError:
        if observation.waited_long():  # of a process that was killed between the marker and the replacement
            with contextlib.suppress(OSError):
                marker.unlink()
        return False
    try:
        if stale is not None and not _holds(file, stale.token):
            return False
        draft.replace(file)
        return True
    finally:
        with contextlib.suppress(OSError):
            marker.unlink()
