"""Selects the runs that a user names: a folder, an id, an experiment's newest, the last, all of a study or workflow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from saman.runs.folder import RunFolder


def found_runs(texts: list[str] | None, runs_dir: Path, newest: int = 0) -> list[RunFolder]:
    """List the runs that ``texts`` name, each once.

    Args:
        texts: Names of runs, experiments, studies or workflows; of a study the runs that fill its plan count, of a
            workflow the runs of its newest submission.
        runs_dir: The folder of runs.
        newest: Number of newest runs to list if there are no names; 0 lists all.

    Raises:
        UserError: A name fits no run, experiment or study.
    """
    from saman.runs.find import find_runs

    if not texts:
        return find_runs(runs_dir)[-newest:]
    if len(texts) == 1:
        return _named(texts[0], runs_dir)
    return list({run.path.resolve(): run for text in texts for run in _named(text, runs_dir)}.values())


def found_run(text: str, runs_dir: Path) -> RunFolder:
    """Select the single run that ``text`` names (``runs.find.find_run``).

    Raises:
        UserError: It names no run, or a workflow, which has several.
    """
    from saman.configs.errors import UserError
    from saman.runs.find import find_run
    from saman.runs.workflows.record import find_workflow

    workflow = find_workflow(text, runs_dir)
    if workflow is None:
        return find_run(text, runs_dir)
    steps = [f"{run.rpartition('/')[2]} ({step.name})" for step in workflow.steps for run in step.runs]
    raise UserError("this is a workflow of several runs", where=text, remedy=f"name one of {', '.join(steps)}")


def _named(text: str, runs_dir: Path) -> list[RunFolder]:
    from saman.runs.find import find_run
    from saman.runs.studies import find_study, study_runs
    from saman.runs.workflows.record import find_workflow

    workflow = find_workflow(text, runs_dir)
    if workflow is not None:
        return workflow.runs(runs_dir)
    study = find_study(text, runs_dir)
    return [find_run(text, runs_dir)] if study is None else study_runs(study)
