"""Submits the steps of a workflow: all jobs are queued and held, recorded, and only then released.

Nothing begins before Slurm has taken every job, so that a refusal in the middle takes everything back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from saman.configs.errors import EnvironmentLack
from saman.runs.events import SUBMITTER, EventKind
from saman.runs.files.removal import remove_with_parents
from saman.runs.folder import RunFolder
from saman.runs.records.run_events import After
from saman.runs.workflows.record import WorkflowRecord, WorkflowStep
from saman.slurm.dependencies import Dependency, joined, on_run
from saman.slurm.site import client
from saman.slurm.site.sbatch_check import check_extra_options
from saman.slurm.submission.arrays import submit_many
from saman.slurm.submission.code_copy import Snapshot, code_copy, discard
from saman.slurm.submission.planning import SubmissionPlan
from saman.slurm.submission.run_jobs import jobs_of
from saman.slurm.submission.run_submission import SubmissionOptions
from saman.slurm.submission.submit import Submission, create_run, send


@dataclass(frozen=True)
class PlannedStep:
    """A step whose jobs are planned and checked.

    Attributes:
        name: Its name.
        kind: What it runs, for people: ``experiment my.yaml``.
        waits: The steps before it, with whether they must complete.
        plans: Its runs; those of a study go as job arrays.
        code_path: Folders of the user's code; empty for a step without.
        study: Whether its runs are those of a study.
        concurrency: Runs of a study that may run at a time.
        complete: Runs that this step needs and that have completed already, relative to the folder of runs.
    """

    name: str
    kind: str
    waits: Mapping[str, After]
    plans: tuple[SubmissionPlan, ...]
    code_path: tuple[Path, ...] = ()
    study: bool = False
    concurrency: int | None = None
    complete: tuple[str, ...] = ()


@dataclass(frozen=True)
class SubmittedStep:
    """A submitted step, and what its jobs wait for."""

    planned: PlannedStep
    submissions: tuple[Submission, ...]
    dependency: Dependency


def submit_steps(
    name: str, file: Path, steps: Sequence[PlannedStep], options: SubmissionOptions
) -> list[SubmittedStep]:
    """Submit all steps of a workflow, or nothing.

    Args:
        name: The workflow.
        file: Its file.
        steps: The steps, each after those that it waits for.
        options: Folders, nodes to avoid, and what the whole workflow waits for.

    Raises:
        UserError: Slurm refuses a job; the jobs before it are cancelled, and their folders removed.
        EnvironmentLack: Slurm does not answer, or a folder cannot be written.
    """
    clusters = {plan.cluster.name: plan.cluster for step in steps for plan in step.plans}
    for cluster in clusters.values():
        check_extra_options(cluster.sbatch, f"cluster {cluster.name}")
    submission = _WorkflowSubmission(name, options)
    try:
        for step in steps:
            submission.send(step)
        record(name, file, next(iter(clusters), ""), submission.done, options.runs_dir)
        submission.release()
    except BaseException:
        submission.take_back()
        raise
    return submission.done


def record(name: str, file: Path, cluster: str, steps: Sequence[SubmittedStep], runs_dir: Path) -> None:
    """Record a workflow that was submitted to Slurm with the runs of each step."""
    found = (
        WorkflowStep(
            name=each.planned.name,
            kind=each.planned.kind,
            after=tuple(each.planned.waits),
            runs=(*each.planned.complete, *(_relative(submission.run) for submission in each.submissions)),
        )
        for each in steps
    )
    WorkflowRecord(name, str(file.absolute()), cluster, tuple(found)).write(runs_dir)


def _relative(run: RunFolder) -> str:
    return run.path.relative_to(run.runs_dir).as_posix()


class _WorkflowSubmission:
    """A submission under way: its runs, copies of code and held jobs."""

    def __init__(self, name: str, options: SubmissionOptions) -> None:
        self._name, self._options = name, options
        self._created: list[RunFolder] = []
        self._copies: dict[tuple[Path, ...], Snapshot | None] = {}
        self._held: list[str] = []
        self.done: list[SubmittedStep] = []

    def send(self, step: PlannedStep) -> None:
        """Submit a step; it is held if no job before it keeps it from beginning."""
        dependency = self._dependency(step)
        sent = self._study(step, dependency) if step.study else [self._single(step, dependency)]
        if dependency.held:
            self._held += dict.fromkeys(each.job.split("_")[0] for each in sent)
        self.done.append(SubmittedStep(step, tuple(sent), dependency))

    def release(self) -> None:
        """Let the first steps begin."""
        if self._held and (answer := client.release(self._held)).code != 0:
            problem = f"scontrol release failed: {client.last_error_line(answer)}"
            raise EnvironmentLack(problem, where=f"workflow {self._name}", remedy="its jobs were taken back; try again")

    def take_back(self) -> None:
        """Cancel every job, and remove the runs, none of which has begun."""
        found = [run for run in self._created if run.path.exists()]
        jobs = [job for run in found for job in jobs_of(run.events())]
        if jobs:
            with contextlib.suppress(EnvironmentLack):
                client.scancel(jobs)
        for run in found:
            if run.attempts():
                run.append(EventKind.CANCELLED, SUBMITTER, reason="the submission of its workflow failed")
                continue
            remove_with_parents(run.path)
        if not any(run.path.exists() for run in found):
            for copy in self._copies.values():
                discard(copy)

    def _dependency(self, step: PlannedStep) -> Dependency:
        before = {each.planned.name: each for each in self.done}
        found = [
            _whole_array(on_run(submission.run, [submission.job, *submission.follow_ups], condition))
            for name, condition in step.waits.items()
            for submission in before[name].submissions
        ]
        found += [] if step.waits else [self._options.dependency]
        dependency = joined(found)
        return replace(dependency, held=not (dependency.ok_jobs or dependency.any_jobs))

    def _make(self, step: PlannedStep, plan: SubmissionPlan) -> RunFolder:
        label = f"{self._name}/{step.name}"
        run = create_run(plan, step.code_path, self._copy(step), self._options.models_dir, label)
        self._created.append(run)
        return run

    def _copy(self, step: PlannedStep) -> Snapshot | None:
        options = self._options
        if not step.code_path or not options.copy_code:
            return None
        if step.code_path not in self._copies:
            spec = step.plans[0].spec
            self._copies[step.code_path] = code_copy(
                spec, step.code_path, options.runs_dir, options.code, options.sent, options.models_dir
            )
        return self._copies[step.code_path]

    def _study(self, step: PlannedStep, dependency: Dependency) -> list[Submission]:
        if not step.plans:
            return []
        return submit_many(
            step.plans, lambda plan: self._make(step, plan), step.concurrency, None, self._options.exclude, dependency
        )

    def _single(self, step: PlannedStep, dependency: Dependency) -> Submission:
        return send(step.plans[0], self._make(step, step.plans[0]), self._options.exclude, dependency)


def _whole_array(dependency: Dependency) -> Dependency:
    """The dependency on the arrays of a study's runs instead of their tasks: every task belongs to the step."""
    ok, ended = (tuple(job.split("_")[0] for job in jobs) for jobs in (dependency.ok_jobs, dependency.any_jobs))
    return replace(dependency, ok_jobs=ok, any_jobs=ended)
