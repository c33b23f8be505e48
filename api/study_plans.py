"""Plans a study and submits its missing runs: the steps that ``saman study`` and ``saman.study`` share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from saman.configs.schemas.cluster import Cluster
    from saman.scaling.study.plan import PlannedRun, StudyPlan
    from saman.slurm.submission.arrays import NoRoom
    from saman.slurm.submission.run_submission import SubmittedRuns


@dataclass(frozen=True)
class PreparedStudy:
    """A planned study and its place.

    Attributes:
        plan: The planned runs.
        runs_dir: Folder of the runs.
        cluster: The cluster of the runs; ``None`` for this machine.
        partition: ``None`` for the cheapest partition that fits.
    """

    plan: StudyPlan
    runs_dir: Path
    cluster: Cluster | None
    partition: str | None


def prepare_study(name: str, runs_dir: Path, cluster: str | None = None, partition: str | None = None) -> PreparedStudy:
    """Load a study and plan its runs. On a cluster, bring the state of its earlier runs up to date.

    Args:
        name: A study file, or the name of a shipped study.
        runs_dir: Folder of the runs.
        cluster: A cluster file by name or path; ``None`` for this machine.
        partition: A partition of the cluster.

    Raises:
        UserError: The study or the cluster file has mistakes.
    """
    from saman.configs.loading.studies import load_study
    from saman.jobs.reconcile import reconcile
    from saman.scaling.study.execution import unfinished_runs
    from saman.scaling.study.plan import cores_of_nodes, make_plan
    from saman.slurm.site.default_cluster import choose_cluster

    site = None if cluster is None else choose_cluster(cluster).load()
    loaded, file = load_study(name)
    plan = make_plan(loaded, file, cores_of_nodes(site, partition))
    if site is not None:
        reconcile(unfinished_runs(plan, runs_dir))
    return PreparedStudy(plan, runs_dir, site, partition)


def submit_study(
    study: PreparedStudy, cluster: Cluster, wait: Callable[[NoRoom], None] = lambda state: None
) -> SubmittedRuns:
    """Submit the missing and failed runs of a study from Python or a command, in portions if Slurm has no room.

    Each run has its nodes to itself, unless the study says ``whole_nodes: false``: a run beside it would slow it down.

    Args:
        study: The prepared study.
        cluster: Its cluster.
        wait: Told when Slurm takes no more jobs for now, before this waits for room.

    Returns:
        The submitted runs; empty if the study is complete.

    Raises:
        UserError: Another process holds the study, its runs could exceed the cap on node-hours, or Slurm refuses them.
        EnvironmentLack: Slurm does not answer.
    """
    from saman.scaling.study.execution import submit_missing
    from saman.slurm.submission.run_submission import SubmissionOptions, SubmittedRuns, submit_experiments

    whole_nodes = study.plan.study.whole_nodes
    options = SubmissionOptions(runs_dir=study.runs_dir, partition=study.partition, whole_nodes=whole_nodes)
    submitted = SubmittedRuns(())

    def send(wanted: Sequence[PlannedRun]) -> None:
        nonlocal submitted
        submitted = submit_experiments(
            [planned.loaded for planned in wanted], cluster, options, study.plan.study.concurrency, wait
        )

    submit_missing(study.plan, study.runs_dir, send)
    if submitted.submissions and not whole_nodes:
        shared = "whole_nodes is false: runs that share a node slow each other down, and no report tells them apart"
        return replace(submitted, notes=(*submitted.notes, shared))
    return submitted
