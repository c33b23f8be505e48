"""The disk use of files in bytes and inodes, without following a link."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from saman.jobs.prune.disk_quota import DiskQuota, read_quota_of
from saman.runs.caches import cache_folder
from saman.runs.find import find_runs
from saman.runs.paths.names import names_in
from saman.runs.paths.runs_folder import OWN_FOLDERS

_BLOCK = 512  # unit of st_blocks, whatever the file system's block (stat(2))


@dataclass(frozen=True)
class Usage:
    """Bytes on disk and inodes; a file with several links counts once within what is measured together."""

    bytes: int = 0
    inodes: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.bytes + other.bytes, self.inodes + other.inodes)


@dataclass(frozen=True)
class UsageRow:
    """The disk use of a group of files: runs of an experiment or study, or what lies beside the runs."""

    what: str
    usage: Usage
    runs: int | None = None


@dataclass(frozen=True)
class FileSystem:
    """The file system of the runs: what is free for this user, and its size. ``None`` where it has no such limit."""

    free_bytes: int
    bytes: int
    free_inodes: int | None
    inodes: int | None


@dataclass(frozen=True)
class UsageReport:
    """The disk use of everything that saman wrote, largest first, the space that is left, and the user's quota."""

    rows: tuple[UsageRow, ...]
    file_system: FileSystem | None
    quota: DiskQuota | None = None

    @property
    def total(self) -> Usage:
        """All rows together."""
        return total(row.usage for row in self.rows)


def total(usages: Iterable[Usage]) -> Usage:
    """The sum of several uses."""
    found = Usage()
    for usage in usages:
        found += usage
    return found


def measure(*paths: Path) -> Usage:
    """Measure files and folders with everything below them. What vanishes meanwhile, or cannot be read, counts 0."""
    bytes_, inodes, seen = 0, 0, set[tuple[int, int]]()
    for found in _stats(paths):
        if found.st_nlink > 1:
            if (found.st_dev, found.st_ino) in seen:
                continue
            seen.add((found.st_dev, found.st_ino))
        bytes_, inodes = bytes_ + found.st_blocks * _BLOCK, inodes + 1
    return Usage(bytes_, inodes)


def _stats(paths: Iterable[Path]) -> Iterator[os.stat_result]:
    pending = [os.fspath(path) for path in paths]
    while pending:
        path = pending.pop()
        try:
            found = os.lstat(path)
            yield found
            if stat.S_ISDIR(found.st_mode):
                with os.scandir(path) as entries:
                    pending += (entry.path for entry in entries)
        except OSError:
            continue


def read_usage(runs_dir: Path, models_dir: Path) -> UsageReport:
    """Measure the runs of each experiment, what lies beside them, the models and the user's cache."""
    counts: dict[str, int] = {}
    for run in find_runs(runs_dir):
        counts[run.experiment_name] = counts.get(run.experiment_name, 0) + 1
    rows = [UsageRow(name, measure(runs_dir / name), count) for name, count in counts.items()]
    rows += [
        UsageRow(what, measure(runs_dir / folder))
        for folder, what in OWN_FOLDERS.items()
        if (runs_dir / folder).is_dir()
    ]
    for what, folder in (("models", models_dir), ("cache of wheels and converters", cache_folder())):
        if folder.is_dir():
            rows.append(UsageRow(f"{what} ({folder})", measure(folder)))
    known = set(counts) | set(OWN_FOLDERS)
    rest = [runs_dir / name for name in names_in(runs_dir) if name not in known]
    rows += [UsageRow("other files beside the runs", measure(*rest))] if rest else []
    return UsageReport(
        tuple(sorted(rows, key=lambda row: -row.usage.bytes)), _file_system(runs_dir), read_quota_of(runs_dir)
    )


def _file_system(folder: Path) -> FileSystem | None:
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    unit = found.f_frsize
    counted = found.f_files > 0  # btrfs and some network file systems have no table of inodes
    inodes = (found.f_favail, found.f_files) if counted else (None, None)
    return FileSystem(found.f_bavail * unit, found.f_blocks * unit, *inodes)
