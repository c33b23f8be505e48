"""Selects what ``saman prune`` removes, with a reason for every run that stays."""

from __future__ import annotations

import contextlib
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from saman.configs.errors import UserError
from saman.jobs.prune.beside import find_beside
from saman.jobs.prune.plan import DAY, KeepReason, Kept, PruneKind, PrunePlan, PruneRequest, Removable
from saman.jobs.prune.usage import measure
from saman.jobs.reconcile import reconcile
from saman.jobs.selection import found_runs
from saman.jobs.status import RunState, RunStatus
from saman.registry.listing import list_versions
from saman.runs.events import find_last
from saman.runs.find import DAMAGE, find_runs
from saman.runs.folder import RunFolder
from saman.runs.paths.names import names_in
from saman.runs.paths.runs_folder import StudyPaths
from saman.runs.records.run_events import VersionPublication
from saman.runs.studies import study_runs
from saman.runs.trust.ownership import user_name
from saman.runs.workflows.record import all_workflows
from saman.slurm.submission.run_jobs import last_queued


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
    wanted = _wanted(request.names, runs, runs_dir)
    reasons = _Reasons(runs, models_dir, runs_dir, request, moment)
    kept = [found for run in runs if run.path in wanted and (found := reasons.of(run)) is not None]
    stays = {each.path for each in kept} | {run.path for run in runs if run.path not in wanted}
    gone = [run for run in runs if run.path not in stays]
    removable = [Removable(PruneKind.RUN, run.path, measure(run.path)) for run in gone]
    removable += find_beside(runs_dir, [run for run in runs if run.path in stays], request, moment)
    return PrunePlan(tuple(removable), tuple(kept))


def _wanted(names: Sequence[str], runs: Sequence[RunFolder], runs_dir: Path) -> set[Path]:
    """The runs that are named, or all; the name of an experiment stands for all of its runs."""
    if not names:
        return {run.path for run in runs}
    here = {run.path.resolve(): run.path for run in runs}
    found: set[Path] = set()
    for name in names:
        group = [run for run in runs if run.experiment_name == name and name != "last"]
        for run in group or found_runs([name], runs_dir):
            if run.path.resolve() not in here:
                raise UserError(f"this run is not in {runs_dir}", where=str(run.path), remedy="name its --runs-dir")
            found.add(here[run.path.resolve()])
    return found


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
