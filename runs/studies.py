"""Studies on disk: finding a study by name, and assigning its runs to its plan."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from saman.configs.errors import UserError
from saman.configs.home_folder import in_home
from saman.runs import locks
from saman.runs.events import Event, EventKind, State, state_of
from saman.runs.find import find_runs
from saman.runs.folder import RunFolder
from saman.runs.paths.runs_folder import StudyPaths
from saman.runs.records.run_events import CreatedExperiment
from saman.runs.records.study import StudyRecord


class StudyRunState(str, Enum):
    """Progress of a planned run, best first."""

    DONE = "done"
    WAITING = "waiting"  # queued or running
    FAILED = "failed"  # ended without success, or lost
    MISSING = "missing"

    def __str__(self) -> str:
        return self.value


_PREFERENCE = list(StudyRunState)


@dataclass(frozen=True)
class StudyRun:
    """A run of a study: the planned digest it belongs to, and its progress."""

    run: RunFolder
    digest: str
    state: StudyRunState


def find_study(text: str, runs_dir: Path) -> StudyPaths | None:
    """Find the study that ``text`` names by its name, its file or its folder.

    Args:
        text: A name below ``runs_dir``, a folder with ``study.json``, a YAML file, or the name of a shipped study.
        runs_dir: The folder of runs.

    Returns:
        The study's paths, which a study without runs does not have yet; ``None`` if ``text`` names no study.

    Raises:
        UserError: The YAML file is no valid study.
    """
    from saman.configs.loading.files import shipped

    if text == "last":  # means the newest run, whatever a shared folder holds
        return None
    path = in_home(text)
    for study in (StudyPaths.of(runs_dir, text), StudyPaths(path)):
        if study.record.is_file():
            return study
    if (path.suffix in (".yaml", ".yml") and path.is_file()) or text in shipped("studies"):
        from saman.configs.loading.studies import load_study

        return StudyPaths.of(runs_dir, load_study(text)[0].name)
    return None


def study_run_state(run: RunFolder) -> StudyRunState:
    """Read the state of a study's run folder. A local run without a live supervisor counts as failed."""
    return _study_run_state(run, run.events())


def _study_run_state(run: RunFolder, events: Sequence[Event]) -> StudyRunState:
    state = state_of(events)
    if state is State.COMPLETED:
        return StudyRunState.DONE
    if any(event.kind == EventKind.QUEUED for event in events):
        return StudyRunState.FAILED if state.ended else StudyRunState.WAITING
    supervised = state is State.RUNNING and locks.holder_of(run.supervisor_lock) is not None
    return StudyRunState.WAITING if supervised else StudyRunState.FAILED


def planned_digest(run: RunFolder, planned: Container[str]) -> str | None:
    """Return the planned digest that the run's experiment has; ``None`` if it is not in the plan.

    An experiment that an earlier saman wrote lacks later keys, so its digest is taken as written and, where that is not
    planned, with today's defaults. A run that also exported its model fills the place of a run that does not. The file
    decides, unless its run recorded the digest when it was created.
    """
    return _planned_digest(run, run.events(), planned)


def _planned_digest(run: RunFolder, events: Sequence[Event], planned: Container[str]) -> str | None:
    created = CreatedExperiment.find(events).digest
    if created is not None and created in planned:
        return created
    if run.is_script:
        return None
    with contextlib.suppress(UserError):
        if (written := run.written_experiment().digest) in planned:
            return written
        experiment = run.experiment()
        for same in (experiment, experiment.model_copy(update={"export": False})):
            if (digest := same.digest()) in planned:
                return digest
    return None


def fill_plan(repeats: Mapping[str, int], runs: Iterable[RunFolder]) -> dict[str, list[StudyRun]]:
    """Assign run folders to the repeats that a study's record plans.

    Args:
        repeats: Planned runs by digest.
        runs: Runs of the study, oldest first.

    Returns:
        By digest at most as many runs as planned: completed runs, then runs under way, then failed runs; among equals
        the newest first. Further runs were replaced and are left out.
    """
    found: dict[str, list[StudyRun]] = defaultdict(list)
    for run in reversed(list(runs)):
        events = run.events()
        digest = _planned_digest(run, events, repeats)
        if digest is not None:
            found[digest].append(StudyRun(run, digest, _study_run_state(run, events)))
    return {
        digest: sorted(found[digest], key=lambda placed: _PREFERENCE.index(placed.state))[:count]
        for digest, count in repeats.items()
    }


def study_runs(study: StudyPaths) -> list[RunFolder]:
    """List the runs that fill a study's plan, oldest first. Raises ``UserError`` if there are none."""
    record, runs_dir, name = StudyRecord.read(study.record), study.path.parent, study.path.name
    placed = fill_plan(record.repeats, find_runs(runs_dir, name)) if record else {}
    kept = [placing.run for group in placed.values() for placing in group]
    if not kept:
        raise UserError(f"the study {name} has no runs in {runs_dir}", remedy="saman study starts them")
    return sorted(kept, key=lambda run: run.id)
