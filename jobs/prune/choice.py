"""Chooses what ``saman prune`` removes, and says of everything else why it stays."""

from __future__ import annotations

import contextlib
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from saman.jobs.prune.usage import Usage, measure, total
from saman.jobs.reconcile import reconcile
from saman.jobs.selection import found_runs
from saman.jobs.status import RunState, RunStatus
from saman.registry.listing import list_versions
from saman.runs.caches import cache_folder
from saman.runs.events import find_last
from saman.runs.find import DAMAGE, find_runs
from saman.runs.folder import RunFolder
from saman.runs.paths.names import names_in
from saman.runs.paths.runs_folder import StudyPaths, array_runs, arrays_folder, code_folder, pruned_folder
from saman.runs.records.run_events import VersionPublication
from saman.runs.studies import study_runs
from saman.runs.trust.ownership import user_name
from saman.runs.workflows.record import all_workflows
from saman.slurm.submission.run_jobs import last_queued

DAY = 86400.0


class KeepReason(str, Enum):
    """Why something stays."""

    FOREIGN = "another user's"
    LINK = "a symbolic link"
    DAMAGED = "damaged"
    ACTIVE = "not ended"
    NEEDED = "a run that has not ended needs it"
    NEWEST = "the newest of its experiment"
    PUBLISHED = "published as a model version"
    STUDY = "a result of a study"
    YOUNG = "too young"
    USED = "used by a run that stays"


class PruneKind(str, Enum):
    """What can be removed."""

    RUN = "run"
    CODE = "copy of code"
    ARRAY = "job array"
    LEFTOVER = "leftover of an earlier prune"
    CACHE = "cache"


@dataclass(frozen=True)
class PruneRequest:
    """What to remove.

    Attributes:
        names: Runs, experiments or studies to choose from; empty for all. A study named here loses its results.
        older_than_seconds: Only what has not changed for so long.
        keep: The number of newest runs of each experiment that stay.
        studies: Also results of studies.
        caches: Also the user's cache of wheels, converters and profiles.
    """

    names: tuple[str, ...] = ()
    older_than_seconds: float = 30 * DAY
    keep: int = 1
    studies: bool = False
    caches: bool = False


@dataclass(frozen=True)
class Removable:
    """Something to remove, with its disk use."""

    kind: PruneKind
    path: Path
    usage: Usage


@dataclass(frozen=True)
class Kept:
    """A run that stays, and why."""

    path: Path
    reason: KeepReason
    detail: str = ""

    @property
    def text(self) -> str:
        """The reason with its details."""
        return f"{self.reason.value}: {self.detail}" if self.detail else self.reason.value


@dataclass(frozen=True)
class PrunePlan:
    """What would be removed, and the runs that stay."""

    removable: tuple[Removable, ...]
    kept: tuple[Kept, ...]

    @property
    def usage(self) -> Usage:
        """What would be freed."""
        return total(each.usage for each in self.removable)


def plan_prune(runs_dir: Path, models_dir: Path, request: PruneRequest, now: float | None = None) -> PrunePlan:
    """Choose what to remove; removes nothing.

    Args:
        runs_dir: The folder of runs.
        models_dir: The folder of models, whose versions name their runs.
        request: What to remove.
        now: Unix time in seconds; ``None`` for the present.

    Raises:
        UserError: A name fits no run, experiment or study.
    """
    runs_dir, moment = runs_dir.absolute(), time.time() if now is None else now
    runs = find_runs(runs_dir)
    wanted = {run.path for run in _named(request.names, runs_dir)} if request.names else {run.path for run in runs}
    reasons = _Reasons(runs, models_dir, runs_dir, request, moment)
    kept = [found for run in runs if run.path in wanted and (found := reasons.of(run)) is not None]
    stays = {each.path for each in kept} | {run.path for run in runs if run.path not in wanted}
    gone = [run for run in runs if run.path not in stays]
    removable = [Removable(PruneKind.RUN, run.path, measure(run.path)) for run in gone]
    removable += _beside(runs_dir, [run for run in runs if run.path in stays], request, moment)
    return PrunePlan(tuple(removable), tuple(kept))


def _named(names: Sequence[str], runs_dir: Path) -> Iterator[RunFolder]:
    """The runs that names mean: here an experiment's name means all of its runs."""
    for name in names:
        group = find_runs(runs_dir, name) if "/" not in name and name not in ("last", "*") else []
        yield from group or found_runs([name], runs_dir)


class _Reasons:
    """Why each run stays."""

    def __init__(
        self, runs: Sequence[RunFolder], models_dir: Path, runs_dir: Path, request: PruneRequest, now: float
    ) -> None:
        self._request, self._now = request, now
        self._status = {status.run: status for status in reconcile(runs)}
        self._newest = _newest(runs, request.keep)
        self._published = {row.run for row in list_versions(models_dir)} if models_dir.is_dir() else set()
        self._needed = _needed(runs, self._status, runs_dir)
        self._results = {} if request.studies else _results(runs_dir, request.names)

    def of(self, run: RunFolder) -> Kept | None:
        """Why a run stays; ``None`` if it may go."""
        with contextlib.suppress(FileNotFoundError):
            for reason, detail in self._reasons(run):
                return Kept(run.path, reason, detail)
        return None

    def _reasons(self, run: RunFolder) -> Iterator[tuple[KeepReason, str]]:
        if run.path.is_symlink() or run.group.is_symlink():
            yield KeepReason.LINK, ""
        owner = run.path.lstat().st_uid
        if owner != os.geteuid():
            yield KeepReason.FOREIGN, user_name(owner)
        status = self._status[str(run.path)]
        if status.state is RunState.DAMAGED:
            yield KeepReason.DAMAGED, status.detail
        if not status.over or (run.remote_file.exists() and not run.state.ended):
            yield KeepReason.ACTIVE, str(status.state)
        if status.state is RunState.VANISHED and self._now - _last_change(run) < DAY:
            yield KeepReason.ACTIVE, "without a sign of life, but perhaps on another machine"
        if run.path in self._needed:
            yield KeepReason.NEEDED, ""
        if (version := self._version(run)) is not None:
            yield KeepReason.PUBLISHED, version
        if run.path in self._newest:
            yield KeepReason.NEWEST, ""
        if run.path in self._results:
            yield KeepReason.STUDY, self._results[run.path]
        if self._now - _last_change(run) < self._request.older_than_seconds:
            yield KeepReason.YOUNG, ""

    def _version(self, run: RunFolder) -> str | None:
        published = find_last(VersionPublication.from_event, run.events())
        if published is not None:
            return str(published)
        return "a version in the models folder" if any(run.id in text for text in self._published) else None


def _newest(runs: Sequence[RunFolder], keep: int) -> set[Path]:
    groups: dict[str, list[RunFolder]] = defaultdict(list)
    for run in runs:
        groups[run.experiment_name].append(run)
    return {run.path for group in groups.values() for run in (group[-keep:] if keep > 0 else [])}


def _needed(runs: Sequence[RunFolder], status: dict[str, RunStatus], runs_dir: Path) -> set[Path]:
    """Runs that unfinished runs wait for, and all runs of an unfinished workflow."""
    open_runs = {run.path for run in runs if not status[str(run.path)].over}
    found: set[Path] = set()
    for run in runs:
        if run.path in open_runs and (queued := last_queued(run.events())) is not None:
            found |= {each.run for each in queued.after if each.run is not None}
    for workflow in all_workflows(runs_dir):
        paths = {run.path for run in workflow.runs(runs_dir)}
        found |= paths if paths & open_runs else set()
    return found


def _results(runs_dir: Path, named: Sequence[str]) -> dict[Path, str]:
    """The runs that fill the plan of a study, with the study; of studies that the user does not name."""
    found: dict[Path, str] = {}
    for name in names_in(runs_dir):
        study = StudyPaths.of(runs_dir, name)
        if name not in named and study.record.is_file():
            with contextlib.suppress(*DAMAGE):
                found |= {run.path: name for run in study_runs(study)}
    return found


def _last_change(run: RunFolder) -> float:
    events = run.events()
    return events[-1].time if events else run.path.lstat().st_mtime


# ---- beside the runs -------------------------------------------------------------------------------------


def _beside(runs_dir: Path, staying: Sequence[RunFolder], request: PruneRequest, now: float) -> Iterator[Removable]:
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
        kinds = [kind for kind in _entries(cache_folder()) if kind.name != "locks"]
        entries = [entry for kind in kinds for entry in _entries(kind)]
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
