"""Removes what was chosen: first out of sight by one rename, then from the disk. Killed at any moment, a run is whole
or gone for every other command; the next prune removes what is left."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from saman.jobs.prune.choice import PruneKind, PrunePlan, Removable
from saman.jobs.prune.usage import Usage, measure
from saman.jobs.reconcile import reconcile
from saman.launcher.supervision.run_lock import is_supervised
from saman.runs.folder import RunFolder
from saman.runs.paths.runs_folder import pruned_folder


@dataclass(frozen=True)
class Removal:
    """What became of something chosen: freed, or left with the problem."""

    chosen: Removable
    freed: Usage
    problem: str | None = None


def remove_chosen(plan: PrunePlan, runs_dir: Path) -> Iterator[Removal]:
    """Remove everything in the plan, one after another.

    A run is looked at again: one that has begun since the plan was made stays.

    Yields:
        The result of each.
    """
    trash = pruned_folder(runs_dir)
    for each in plan.removable:
        try:
            problem = _remove(each, trash)
        except OSError as error:
            problem = error.strerror or str(error)
        left = measure(each.path) if each.path.exists() else Usage()
        freed = Usage(max(0, each.usage.bytes - left.bytes), max(0, each.usage.inodes - left.inodes))
        yield Removal(each, freed if problem is None else Usage(), problem)
    with contextlib.suppress(OSError):
        trash.rmdir()


def _remove(chosen: Removable, trash: Path) -> str | None:
    """Remove something; returns why it stays."""
    if chosen.path.is_symlink():
        return "it is a link now"
    if chosen.kind is PruneKind.LEFTOVER:
        _delete(chosen.path)
        return None
    if chosen.kind is PruneKind.RUN and (busy := _busy(RunFolder(chosen.path))):
        return busy
    # Three levels deep, where no other command looks for a run.
    away = trash / f"{chosen.path.name}-{secrets.token_hex(3)}"
    (away / chosen.path.parent.name).mkdir(parents=True, mode=0o700)
    target = away / chosen.path.parent.name / chosen.path.name
    try:
        chosen.path.rename(target)
    except OSError:  # another file system, as a cache
        away.joinpath(chosen.path.parent.name).rmdir()
        away.rmdir()
        if chosen.kind is PruneKind.RUN:
            raise
        _delete(chosen.path)
        return None
    if chosen.kind is PruneKind.RUN and is_supervised(RunFolder(target)):
        target.rename(chosen.path)  # it was resumed in the last moment
        _delete(away)
        return "it has begun again"
    _delete(away)
    if chosen.kind is PruneKind.RUN:
        with contextlib.suppress(OSError):  # other runs are in there
            chosen.path.parent.rmdir()
    return None


def _busy(run: RunFolder) -> str | None:
    (status,) = reconcile([run])
    if not status.over:
        return f"it is {status.state} now"
    return "it is supervised now" if is_supervised(run) else None


def _delete(path: Path) -> None:
    """Delete a file, or a folder with everything in it; links are removed, not followed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
