"""Finds the runs, studies and jobs that a new job is to wait for, and checks that they can still end as required."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from saman.configs.errors import UserError
from saman.jobs.reconcile import reconcile
from saman.jobs.selection import found_runs
from saman.jobs.status import RunStatus
from saman.runs.events import state_in_words
from saman.runs.find import find_runs
from saman.runs.folder import RunFolder
from saman.runs.paths.runs_folder import StudyPaths
from saman.runs.records.run_events import After, Prerequisite
from saman.runs.records.study import StudyRecord
from saman.runs.studies import fill_plan, find_study
from saman.slurm.dependencies import Dependency, joined, on_run
from saman.slurm.site import client
from saman.slurm.site.job_states import JobState, job_state
from saman.slurm.submission.run_jobs import jobs_of

_JOB = re.compile(r"[0-9]+(_[0-9]+)?")


def dependency_on(ok: Sequence[str], ended: Sequence[str], runs_dir: Path) -> Dependency:
    """The dependency on everything that ``--after`` and ``--after-any`` name.

    Args:
        ok: Names of what must complete.
        ended: Names of what must end.
        runs_dir: The folder of runs.

    Raises:
        UserError: As ``find_prerequisites`` and ``resolve`` do.
        EnvironmentLack: Slurm does not answer.
    """
    named = find_prerequisites(ok, After.OK, runs_dir)
    return joined([resolve(named), resolve(find_prerequisites(ended, After.ANY, runs_dir), "--after-any")])


def find_prerequisites(texts: Sequence[str], condition: After, runs_dir: Path) -> list[Prerequisite]:
    """The prerequisites that ``--after`` names: a run, all runs of a study or workflow, or a job by its id.

    Raises:
        UserError: A name fits nothing, or planned runs of a study are missing.
    """
    found: list[Prerequisite] = []
    for text in texts:
        if _JOB.fullmatch(text):
            found.append(Prerequisite(condition, job=text))
            continue
        if (study := find_study(text, runs_dir)) is not None:
            _require_all_runs(study, runs_dir, text)
        found += (Prerequisite(condition, run=run.path) for run in found_runs([text], runs_dir))
    return list(dict.fromkeys(found))


def _require_all_runs(study: StudyPaths, runs_dir: Path, text: str) -> None:
    record = StudyRecord.read(study.record)
    placed = fill_plan(record.repeats, find_runs(runs_dir, study.path.name)) if record else {}
    wanted, present = len(record.runs) if record else 0, sum(map(len, placed.values()))
    if present < wanted or not wanted:
        problem = f"{wanted - present} of {wanted} runs of the study do not exist yet" if wanted else "it has no runs"
        raise UserError(problem, where=f"--after {text}", remedy=f"saman study {text} --cluster … submits them first")


def resolve(prerequisites: Sequence[Prerequisite], where: str = "--after") -> Dependency:
    """What Slurm has to wait for: prerequisites that are met already are recorded only.

    Args:
        prerequisites: The prerequisites.
        where: The place of the request, for errors.

    Raises:
        UserError: A prerequisite has ended otherwise, is unknown, or is no job of Slurm.
        EnvironmentLack: Slurm does not answer.
    """
    runs = [each for each in prerequisites if each.run is not None]
    folders = [RunFolder.open(each.run) for each in runs if each.run is not None]
    statuses = reconcile(folders) if folders else []
    found = [_of_run(each, run, status, where) for each, run, status in zip(runs, folders, statuses, strict=True)]
    return joined([*found, *(_of_job(each, where) for each in prerequisites if each.run is None)])


def _of_run(each: Prerequisite, run: RunFolder, status: RunStatus, where: str) -> Dependency:
    name = f"{status.name}/{status.id}"
    if status.over:
        if each.condition is After.OK and not status.succeeded:
            remedy = f"`saman resume {status.id}` continues it first, or wait for any end with --after-any"
            raise UserError(
                f"{name} {state_in_words(status.state)}, so this would never start", where=where, remedy=remedy
            )
        return Dependency((each,))
    jobs = jobs_of(run.events())
    if not jobs:
        raise UserError(
            f"{name} {state_in_words(status.state)} on this machine, and Slurm cannot wait for it", where=where,
            remedy=f"saman wait {status.id}, then submit",
        )  # fmt: skip
    return on_run(run, jobs, each.condition)


def _of_job(each: Prerequisite, where: str) -> Dependency:
    job = str(each.job)
    states = _states(job)
    if not states:
        raise UserError(f"Slurm knows no job {job}", where=where, remedy="squeue --me lists your jobs")
    if all(state.ended for state in states):
        if each.condition is After.OK and any(state is not JobState.COMPLETED for state in states):
            raise UserError(f"job {job} has failed, so this would never start", where=where, remedy="--after-any")
        return Dependency((each,))
    return Dependency((each,), ok_jobs=(job,)) if each.condition is After.OK else Dependency((each,), any_jobs=(job,))


def _states(job: str) -> list[JobState]:
    """The states of a job, or of all tasks of an array; also of another user's job."""
    listed = [entry.state for number, entry in client.queue().items() if number == job or number.startswith(f"{job}_")]
    if listed:
        return listed
    shown = client.show_job(job)
    if shown.get("JobState"):
        return [job_state(shown["JobState"])]
    return [record.state for record in (client.accounting([job]) or {}).values()]
