"""Submit runs to a cluster: check them against its limits, copy the code, hand the jobs to Slurm."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from saman.configs.errors import EnvironmentLack
from saman.configs.home_folder import in_home
from saman.configs.loading.experiments import LoadedExperiment
from saman.configs.schemas.cluster import Cluster
from saman.configs.schemas.experiment import Experiment
from saman.configs.schemas.script import Script
from saman.runs.find import find_runs
from saman.runs.folder import RunFolder
from saman.slurm.code.files import SentCode
from saman.slurm.dependencies import NONE, Dependency
from saman.slurm.site.sbatch_check import check_extra_options
from saman.slurm.submission import planning
from saman.slurm.submission import submit as slurm
from saman.slurm.submission.arrays import NoRoom, submit_many
from saman.slurm.submission.code_copy import Snapshot, code_copy, describe_copy, discard
from saman.slurm.submission.job_script import python_of
from saman.slurm.submission.planning import SubmissionPlan
from saman.slurm.submission.submit import Submission


@dataclass(frozen=True)
class SubmissionOptions:
    """Choices of the user beside what to run and where.

    ``code`` lists what to copy of the user's code; by default everything that git tracks. ``copy_code`` false uses the
    code in place. ``sent``: the code that another machine sent for this run.
    """

    runs_dir: Path = Path("runs")
    models_dir: Path = Path("models")
    partition: str | None = None
    exclude: tuple[str, ...] = ()
    code: tuple[Path, ...] = ()
    copy_code: bool = True
    ignore_limits: bool = False
    sent: SentCode | None = None
    dependency: Dependency = NONE  # what the job waits for
    whole_nodes: bool = False  # whatever the partition says, so that no other job shares the nodes


@dataclass(frozen=True)
class SubmittedRuns:
    """Runs that Slurm has taken, and what their users should know."""

    submissions: tuple[Submission, ...]
    notes: tuple[str, ...] = ()


class SubmissionMode(Enum):
    """How far a submission goes."""

    SUBMIT = "submit"
    TEST_ONLY = "test only"  # ask Slurm for the start time; submit nothing
    DRY_RUN = "dry run"  # render the job script; ask Slurm nothing


@dataclass(frozen=True)
class SubmissionResult:
    """A submission as far as its mode goes.

    Attributes:
        plan: The chosen partition and the job script.
        notes: Remarks for the user, choices first; the limits are missing after a dry run.
        start: The start time in Slurm's words, in the mode ``TEST_ONLY``.
        submission: The job and its run folder, in the mode ``SUBMIT``.
    """

    plan: SubmissionPlan
    notes: tuple[str, ...]
    start: str | None = None
    submission: Submission | None = None


@dataclass(frozen=True)
class CheckedPlan:
    """A submission plan held against the user's limits. ``notes`` explain the choices, ``warnings`` the limits."""

    plan: SubmissionPlan
    warnings: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """Everything that the user should know, choices first."""
        return (*self.plan.notes, *self.warnings)


def plan_submission(spec: Experiment | Script, cluster: Cluster, options: SubmissionOptions) -> SubmissionPlan:
    """Choose the partition and render the job script; nothing is written, Slurm is not asked.

    Args:
        spec: the experiment, or a program.
        cluster: the cluster to submit to.
        options: the folder of runs, and the partition if the user chose it.

    Raises:
        UserError: the run does not fit the cluster; names every obstacle.
    """
    return planning.plan(spec, cluster, options.runs_dir, options.partition, whole_nodes=options.whole_nodes)


def check_plan(plan: SubmissionPlan, options: SubmissionOptions) -> CheckedPlan:
    """Hold the plan against the installed sbatch and the user's limits, unless these are to be ignored.

    Raises:
        UserError: sbatch refuses an option of the cluster file, or a limit forbids the job.
    """
    check_extra_options(plan.cluster.sbatch, f"cluster {plan.cluster.name}")
    return CheckedPlan(plan, () if options.ignore_limits else tuple(planning.check_limits(plan)))


def make_submission(
    spec: Experiment | Script,
    cluster: Cluster,
    code_path: Sequence[Path],
    options: SubmissionOptions,
    mode: SubmissionMode = SubmissionMode.SUBMIT,
) -> SubmissionResult:
    """Plan a run's job, check it and submit it, as far as ``mode`` goes.

    Args:
        spec: The experiment, or a program.
        cluster: The cluster.
        code_path: Folders of the user's code.
        options: Folders, partition, code and limits.
        mode: Submit, ask Slurm for the start time, or only render the job script.

    Raises:
        UserError: The run does not fit the cluster, a limit forbids it, or Slurm refuses it.
        EnvironmentLack: Slurm does not answer, or the run folder cannot be written.
    """
    plan = plan_submission(spec, cluster, options)
    if mode is SubmissionMode.DRY_RUN:
        return SubmissionResult(plan, plan.notes)
    checked = check_plan(plan, options)
    if mode is SubmissionMode.TEST_ONLY:
        return SubmissionResult(plan, checked.notes, start=planning.test_only(plan, options.exclude))
    done = submit_plan(checked, code_path, options)
    return SubmissionResult(plan, done.notes, submission=done.submissions[0])


def submit_run(
    spec: Experiment | Script, cluster: Cluster, code_path: Sequence[Path], options: SubmissionOptions
) -> SubmittedRuns:
    """Submit a run.

    Args:
        spec: the experiment, or a program.
        cluster: where to.
        code_path: folders of the user's code.
        options: everything else.

    Raises:
        UserError: the run does not fit the cluster, a limit forbids it, or Slurm refuses it.
        EnvironmentLack: Slurm does not answer, or the run folder cannot be written.
    """
    return submit_plan(check_plan(plan_submission(spec, cluster, options), options), code_path, options)


def submit_plan(checked: CheckedPlan, code_path: Sequence[Path], options: SubmissionOptions) -> SubmittedRuns:
    """Submit a checked plan.

    Args:
        checked: the plan.
        code_path: folders of the user's code.
        options: everything else.

    Raises:
        UserError: Slurm refuses the job.
        EnvironmentLack: Slurm does not answer, or the run folder cannot be written.
    """
    plan = checked.plan
    copy = _code_copy(plan.spec, code_path, options) if options.copy_code else None
    with _discarded_unless_submitted(copy):
        archived = _environment_archive(plan.cluster)
        done = slurm.submit(plan, code_path, copy, options.models_dir, options.exclude, options.dependency)
    return SubmittedRuns((done,), (*checked.notes, *describe_copy(plan.spec, copy), *archived))


def _environment_archive(cluster: Cluster) -> list[str]:
    """Build the archive for ``environment: {stage: node}``, if jobs run this Python; notes on it.

    A job builds what is missing, on its own nodes' time.
    """
    if not cluster.stages_environment:
        return []
    from saman.launcher.staging.environment import environment_archive, this_environment

    environment = this_environment()
    asked = cluster.software.virtualenv
    own = python_of(cluster) == sys.executable or (asked is not None and in_home(asked) == Path(sys.prefix))
    notes: list[str] = []
    if environment is not None and own:
        try:
            environment_archive(environment, notes.append)
        except EnvironmentLack as lack:
            notes.append(f"WARNING: {lack}; the job tries again")
    return notes


def _code_copy(spec: Experiment | Script, code_path: Sequence[Path], options: SubmissionOptions) -> Snapshot | None:
    return code_copy(spec, code_path, options.runs_dir, options.code, options.sent, options.models_dir)


@contextmanager
def _discarded_unless_submitted(copy: Snapshot | None) -> Iterator[None]:
    """Remove the copy of the code again if no run was submitted."""
    try:
        yield
    except BaseException:
        if copy is not None and not _is_used(copy):
            discard(copy)
        raise


def _is_used(copy: Snapshot) -> bool:
    """Whether a run was submitted with this copy, before the submission of others failed."""
    runs = find_runs(copy.folder.parent.parent)
    return any(copy.folder in path.parents for run in runs for path in run.code_path)


def _distinct(loaded: Sequence[LoadedExperiment]) -> list[LoadedExperiment]:
    """Each experiment once: the repeats of a study share theirs."""
    return list({id(each.experiment): each for each in loaded}.values())


def submit_experiments(
    loaded: Sequence[LoadedExperiment],
    cluster: Cluster,
    options: SubmissionOptions,
    concurrency: int | None = None,
    wait: Callable[[NoRoom], None] | None = None,
) -> SubmittedRuns:
    """Submit many experiments as job arrays. They share a copy of the first experiment's code.

    Args:
        loaded: the experiments.
        cluster: the cluster to submit to.
        options: everything else.
        concurrency: runs that may run at the same time, over all arrays; ``None`` for no limit.
        wait: told when Slurm takes no more jobs for now, before this waits for room; ``None`` refuses instead.

    Raises:
        UserError: a run does not fit the cluster, a limit forbids it, or Slurm refuses it.
        EnvironmentLack: Slurm does not answer, or a run folder cannot be written.
    """
    planned = {
        id(each.experiment): planning.plan(
            each.experiment, cluster, options.runs_dir, options.partition, whole_nodes=options.whole_nodes, draw=False
        )
        for each in _distinct(loaded)
    }
    plans = [planned[id(each.experiment)] for each in loaded]
    check_extra_options(cluster.sbatch, f"cluster {cluster.name}")
    warnings: list[str] = []
    for name in {plan.choice.partition.name for plan in plans}:
        here = [plan for plan in plans if plan.choice.partition.name == name]
        warnings += planning.check_limits(*here, in_portions=wait is not None)
    warnings += _environment_archive(cluster)
    first = loaded[0]
    copy = _code_copy(first.experiment, first.code_path, options)

    def create(plan: SubmissionPlan) -> RunFolder:
        return slurm.create_run(plan, first.code_path, copy, options.models_dir)

    with _discarded_unless_submitted(copy):
        done = submit_many(plans, create, concurrency, wait, options.exclude, options.dependency)
        return SubmittedRuns(tuple(done), tuple(warnings))
