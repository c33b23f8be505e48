"""Removes what was selected: a rename hides it from all commands, then it is deleted.

Killed at any moment, a run is whole or gone for every other command; the next prune removes what is left.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from saman.jobs.prune.plan import PruneKind, PrunePlan, Removable
from saman.jobs.prune.usage import Usage, measure
from saman.jobs.reconcile import reconcile
from saman.launcher.supervision.run_lock import is_supervised
from saman.runs.events import state_in_words
from saman.runs.folder import RunFolder
from saman.runs.paths.runs_folder import pruned_folder
from saman.runs.trust.ownership import DubiousFolderError, own_folder


@dataclass(frozen=True)
class Removal:
    """The result for a selected entry: freed, or kept because of a problem."""

    chosen: Removable
    freed: Usage
    problem: str | None = None


def remove_chosen(plan: PrunePlan, runs_dir: Path) -> Iterator[Removal]:
    """Remove everything in the plan, one after another.

    Each run is checked again: a run that has begun since the plan was made stays.

    Yields:
        The result of each.
    """
    trash = pruned_folder(runs_dir)
    for each in plan.removable:
        try:
            problem = _remove(each, trash)
        except DubiousFolderError as error:
            problem = str(error)
        except OSError as error:
            problem = error.strerror or str(error)
        left = measure(each.path) if each.path.exists() else Usage()
        freed = Usage(max(0, each.usage.bytes - left.bytes), max(0, each.usage.inodes - left.inodes))
        yield Removal(each, freed if problem is None else Usage(), problem)
    with contextlib.suppress(OSError):
        trash.rmdir()


def _remove(chosen: Removable, trash: Path) -> str | None:
    """Remove something; returns why it stays."""
    if chosen.kind is PruneKind.RUN and (busy := _busy(RunFolder(chosen.path))):
        return busy
    with _folder(chosen.path.parent) as parent:
        found = os.stat(chosen.path.name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISLNK(found.st_mode) or found.st_uid != os.geteuid():
            return "it was exchanged meanwhile"
        if chosen.kind is PruneKind.LEFTOVER:
            _delete(chosen.path.name, parent)
            return None
        with _fresh_folder(trash, chosen.path) as away:
            return _remove_by_way_of(away, chosen, parent)


def _remove_by_way_of(away: _Away, chosen: Removable, parent: int) -> str | None:
    name = chosen.path.name
    try:
        os.rename(name, name, src_dir_fd=parent, dst_dir_fd=away.descriptor)
    except OSError:  # another file system, as a cache
        if chosen.kind is PruneKind.RUN:
            raise
        _delete(name, parent)
        return None
    if chosen.kind is PruneKind.RUN and is_supervised(RunFolder(away.path / name)):
        os.rename(name, name, src_dir_fd=away.descriptor, dst_dir_fd=parent)
        return "it has begun again"  # in the last moment
    _delete(name, away.descriptor)
    if chosen.kind is PruneKind.RUN:
        with contextlib.suppress(OSError):  # other runs are in there
            chosen.path.parent.rmdir()
    return None


@dataclass(frozen=True)
class _Away:
    """An open folder for something that is being removed."""

    path: Path
    descriptor: int


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[int]:
    """Open a folder: in a shared folder of runs, somebody may exchange it for a link while it is used."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _fresh_folder(trash: Path, path: Path) -> Iterator[_Away]:
    """A folder in ``trash``, three levels deep, where no other command looks for a run; removed if it ends empty."""
    away = own_folder(trash) / f"{path.name}-{secrets.token_hex(3)}" / path.parent.name
    away.mkdir(parents=True, mode=0o700)
    try:
        with _folder(away) as descriptor:
            yield _Away(away, descriptor)
    finally:
        for folder in (away, away.parent):
            with contextlib.suppress(OSError):
                folder.rmdir()


def _busy(run: RunFolder) -> str | None:
    (status,) = reconcile([run])
    if not status.over:
        return f"it {state_in_words(status.state)} now"
    return "it is supervised now" if is_supervised(run) else None


def _delete(name: str, folder: int) -> None:
    """Delete a file of an open folder, or a folder with everything in it; links are removed, not followed."""
    if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        shutil.rmtree(name, dir_fd=folder)  # type: ignore[call-arg]  # the stubs lack it
    else:
        os.unlink(name, dir_fd=folder)
