"""What the folder of runs holds besides runs: studies, job arrays, copies of code."""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

_PRUNED = f".pruned-{os.geteuid()}"  # of each user: in a shared folder of runs nobody may keep others from pruning
# Folders beside the experiments, and what they hold.
OWN_FOLDERS = {
    ".code": "copies of code",
    ".arrays": "job arrays",
    ".workflows": "workflows",
    ".forecasts": "forecasts",
    _PRUNED: "leftovers of prune",
}


@dataclass(frozen=True)
class StudyPaths:
    """Files of a study beside its runs.

    >>> StudyPaths.of(Path("runs"), "scaling").record.as_posix()
    'runs/scaling/study.json'
    """

    path: Path

    @classmethod
    def of(cls, runs_dir: Path, name: str) -> StudyPaths:
        """Return the paths of the study ``name``."""
        return cls(runs_dir / name)

    @property
    def record(self) -> Path:
        """The study's plan (``runs.records.study``)."""
        return self.path / "study.json"

    @property
    def tuning(self) -> Path:
        """The file of a tuning study, as it was last run."""
        return self.path / "tuning.json"

    @property
    def journal(self) -> Path:
        """Trials of a tuning study: Optuna's journal."""
        return self.path / "trials.journal"

    @property
    def journal_lock(self) -> Path:
        """Lock of a process that writes to the journal."""
        return self.path / "trials.lock"

    @property
    def lock(self) -> Path:
        """Lock of the process that runs or submits the study."""
        return self.path / "study.lock"

    def experiment_runs(self) -> list[Path]:
        """List the run folders that hold an experiment, oldest first."""
        return sorted(file.parent for file in self.path.glob("*/experiment.yaml"))


def planned_run(runs_dir: Path, name: str, placeholder: str = "RUN") -> Path:
    """Return the folder of a run that is only planned; ``placeholder`` replaces its id."""
    return runs_dir.absolute() / name / placeholder


def new_array_folder(runs_dir: Path) -> Path:
    """Return the path of a fresh folder for the script and logs of a job array; it does not exist yet."""
    return _fresh(arrays_folder(runs_dir))


def arrays_folder(runs_dir: Path) -> Path:
    """Return the folder of all job arrays."""
    return runs_dir.absolute() / ".arrays"


def array_script(folder: Path) -> Path:
    """Return the path in the runs folder of an array's job script."""
    return folder / "job.sbatch"


def array_runs(folder: Path) -> Path:
    """Return the path of the list of runs in an array's folder: the run folder of each task on a line of its own."""
    return folder / "runs.txt"


def forecast_log(runs_dir: Path) -> Path:
    """Return the log of forecasts and their outcomes (``runs.forecast_log``)."""
    return runs_dir.absolute() / ".forecasts" / "forecasts.jsonl"


def workflow_folder(runs_dir: Path, name: str) -> Path:
    """Return the folder of the submissions of a workflow."""
    return runs_dir.absolute() / ".workflows" / name


def new_workflow_file(runs_dir: Path, name: str) -> Path:
    """Return the path of a fresh record of a workflow; later records sort after it."""
    return _fresh(workflow_folder(runs_dir, name)).with_suffix(".json")


def new_code_folder(runs_dir: Path) -> Path:
    """Return a fresh path in the runs folder for a copy of a user's code; it does not exist yet."""
    return _fresh(code_folder(runs_dir))


def code_folder(runs_dir: Path) -> Path:
    """Return the folder of all copies of code."""
    return runs_dir.absolute() / ".code"


def pruned_folder(runs_dir: Path) -> Path:
    """Return the folder in which runs that this user removes wait for their deletion."""
    return runs_dir.absolute() / _PRUNED


def code_diff(folder: Path) -> Path:
    """Return the path, in a copy of code, of the difference to its commit."""
    return folder / "code.diff"


def _fresh(parent: Path) -> Path:
    return parent / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
