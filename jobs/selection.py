"""Selects the runs that a user names: a folder, an id, an experiment's newest, the last, or all of a study."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from saman.runs.folder import RunFolder


def found_runs(texts: list[str] | None, runs_dir: Path, newest: int = 0) -> list[RunFolder]:
    """List the runs that ``texts`` name, each once.

    Args:
        texts: Names of runs, experiments or studies; of a study the runs that fill its plan count.
        runs_dir: The folder of runs.
        newest: Number of newest runs to list if there are no names; 0 lists all.

    Raises:
        UserError: A name fits no run, experiment or study.
    """
    from saman.runs.find import find_run, find_runs
    from saman.runs.studies import find_study, study_runs

    if not texts:
        return find_runs(runs_dir)[-newest:]
    found: dict[Path, RunFolder] = {}
    for text in texts:
        study = find_study(text, runs_dir)
        for run in [find_run(text, runs_dir)] if study is None else study_runs(study):
            found[run.path.resolve()] = run
    return list(found.values())
