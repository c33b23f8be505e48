"""Finds what can be removed beside the runs: copies of code, job arrays, leftovers, old entries of the cache."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from saman.jobs.prune.plan import DAY, PruneKind, PruneRequest, Removable
from saman.jobs.prune.usage import measure
from saman.runs.caches import PARTS, cache_folder
from saman.runs.folder import RunFolder
from saman.runs.paths.names import names_in
from saman.runs.paths.runs_folder import array_runs, arrays_folder, code_folder, pruned_folder


def find_beside(runs_dir: Path, staying: Sequence[RunFolder], request: PruneRequest, now: float) -> Iterator[Removable]:
    """Copies of code and arrays that no staying run needs, leftovers, and caches if they are wanted."""
    yield from _found(PruneKind.LEFTOVER, _entries(pruned_folder(runs_dir)))
    if request.names:
        return  # only runs were named
    old = min(request.older_than_seconds, DAY)  # a submission writes them before its runs
    used = {path for run in staying for path in run.code_path}
    known = all(any(event.kind == "created" for event in run.events()) for run in staying)
    copies = [each for each in _entries(code_folder(runs_dir)) if known and _age(each, now) >= old]
    yield from _found(PruneKind.CODE, (each for each in copies if not any(path.is_relative_to(each) for path in used)))
    stays = {str(run.path) for run in staying}
    arrays = [each for each in _entries(arrays_folder(runs_dir)) if _age(each, now) >= old]
    yield from _found(PruneKind.ARRAY, (each for each in arrays if not stays & _runs_of_array(each)))
    if request.caches:
        entries = [entry for part in PARTS for entry in _entries(cache_folder() / part)]
        yield from _found(PruneKind.CACHE, (e for e in entries if _age(e, now) >= request.older_than_seconds))


def _found(kind: PruneKind, paths: Iterable[Path]) -> Iterator[Removable]:
    return (Removable(kind, path, measure(path)) for path in paths)


def _entries(folder: Path) -> list[Path]:
    """Entries of a folder of this user; no link, and nothing of another user's."""
    if folder.is_symlink():
        return []
    entries = [folder / name for name in sorted(names_in(folder))]
    return [each for each in entries if not each.is_symlink() and each.lstat().st_uid == os.geteuid()]


def _age(path: Path, now: float) -> float:
    return now - path.lstat().st_mtime


def _runs_of_array(folder: Path) -> set[str]:
    with contextlib.suppress(OSError):
        return set(array_runs(folder).read_text(encoding="utf-8").splitlines())
    return set()
