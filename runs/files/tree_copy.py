"""Copies a folder so that a reader finds it whole or not at all: first as ``NAME.partial``, then by a rename."""

from __future__ import annotations

import os
import shutil
import stat
import time
from dataclasses import dataclass
from pathlib import Path

CHUNK = 4 << 20
PARTIAL = ".partial"


@dataclass(frozen=True)
class TreeCopy:
    """What was copied. ``skipped`` counts links and special files; ``problem`` is an error of the system."""

    whole: bool
    files: int
    bytes: int
    skipped: int = 0
    problem: str | None = None


class _TimeOver(Exception):  # noqa: N818  (a finding)
    pass


def copy_tree(source: Path, target: Path, deadline: float) -> TreeCopy:
    """Copy the files below ``source`` to the new folder ``target``, and then remove ``source``.

    Links are not followed: what they name may not be the user's to copy, or may not exist elsewhere.

    Args:
        source: a folder that nobody writes to any more.
        target: appears only when everything is in it and on the disk; until then it is called ``target.partial``.
        deadline: when to give up (``time.monotonic``).
    """
    partial = target.with_name(target.name + PARTIAL)
    work = _Work(deadline)
    try:
        shutil.rmtree(partial, ignore_errors=True)  # of a copy before, which was not whole
        work.copy(source, partial)
        partial.rename(target)
        _synchronise(target.parent)
    except _TimeOver:
        return TreeCopy(False, work.files, work.bytes, work.skipped)
    except OSError as error:
        problem = f"{error.filename or target}: {error.strerror or error}"
        return TreeCopy(False, work.files, work.bytes, work.skipped, problem)
    shutil.rmtree(source, ignore_errors=True)
    return TreeCopy(True, work.files, work.bytes, work.skipped)


class _Work:
    """A copy under way."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.files = self.bytes = self.skipped = 0

    def copy(self, source: Path, target: Path) -> None:
        """Copy a tree of files, and put it on the disk."""
        target.mkdir(mode=0o755)
        with os.scandir(source) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.is_dir(follow_symlinks=False):
                    self.copy(source / entry.name, target / entry.name)
                elif entry.is_file(follow_symlinks=False):
                    self._file(source / entry.name, target / entry.name)
                else:
                    self.skipped += 1
        _synchronise(target)

    def _file(self, source: Path, target: Path) -> None:
        if time.monotonic() > self.deadline:
            raise _TimeOver
        descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as read:
            found = os.fstat(read.fileno())
            if not stat.S_ISREG(found.st_mode):
                self.skipped += 1
                return
            with target.open("xb") as write:
                while chunk := read.read(CHUNK):
                    if time.monotonic() > self.deadline:
                        raise _TimeOver
                    write.write(chunk)
                    self.bytes += len(chunk)
                write.flush()
                os.fsync(write.fileno())
        os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
        self.files += 1


def _synchronise(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
