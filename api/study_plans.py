"""Plans a study and submits its missing runs: the steps that ``saman study`` and ``saman.study`` share."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from saman.configs.errors import UserError

if TYPE_CHECKING:
    from saman.configs.loading.experiments import LoadedExperiment
    from saman.configs.schemas.cluster import Cluster
    from saman.launcher.node.machine import Node
    from saman.scaling.study.plan import PlannedRun, StudyPlan
    from saman.slurm.dependencies import Dependency
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
        nodes: The nodes of the Slurm allocation around this process; ``None`` outside an allocation.
        avoid: Nodes of the cluster that no run may use.
        note: Where a default cluster comes from.
    """

    plan: StudyPlan
    runs_dir: Path
    cluster: Cluster | None
    partition: str | None
    nodes: tuple[Node, ...] | None = None
    avoid: tuple[str, ...] = ()
    note: str | None = None


@dataclass(frozen=True)
class StudyChanges:
    """Changes of a study by its user.

    Attributes:
        settings: ``KEY=VALUE``: a key of the study, an axis, a key of the experiment or, on a cluster, of its file.
        exclude: Combinations to leave out, as ``AXIS=VALUE,AXIS=VALUE``, and on a cluster names of nodes to avoid.
    """

    settings: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


def prepare_study(
    name: str,
    runs_dir: Path,
    cluster: str | None = None,
    partition: str | None = None,
    changes: StudyChanges = StudyChanges(),
    models_dir: Path = Path("models"),
) -> PreparedStudy:
    """Load a study and plan its runs. On a cluster, bring the state of its earlier runs up to date.

    Inside a Slurm allocation a study that stays here is planned on the nodes of the allocation.

    Args:
        name: A study file, or the name of a shipped study.
        runs_dir: Folder of the runs.
        cluster: A cluster file by name or path; ``None`` for this machine.
        partition: A partition of the cluster.
        changes: What the user changes of the study.
        models_dir: The folder of the models whose versions the experiment names.

    Raises:
        UserError: The study or the cluster file has mistakes.
    """
    from saman.configs.loading.studies import excluded_cells, load_study
    from saman.scaling.study.plan import cores_of_nodes, make_plan
    from saman.slurm.job.interactive import is_inside, nodes_of_allocation
    from saman.slurm.site.access import require_here
    from saman.slurm.site.default_cluster import choose_cluster

    if cluster is not None:
        chosen = choose_cluster(cluster)
        of_site = tuple(text for text in changes.settings if _is_of_the_cluster(text))
        site = require_here(chosen.load(of_site), "a study")
        rest = tuple(text for text in changes.settings if text not in of_site)
        avoid = tuple(text for text in changes.exclude if "=" not in text)
        cells = tuple(text for text in changes.exclude if text not in avoid)
        plan = plan_for(name, runs_dir, site, partition, StudyChanges(rest, cells), models_dir)
        return PreparedStudy(plan, runs_dir, site, partition, avoid=avoid, note=chosen.note)
    if partition is not None:
        raise UserError("this machine has no partitions", where="--partition", remedy="--cluster NAME")
    loaded, file = load_study(name, changes.settings)
    nodes = nodes_of_allocation(os.environ) if is_inside(os.environ) else None
    cores = cores_of_nodes(None) if nodes is None else min(node.cores for node in nodes)
    plan = make_plan(loaded, file, cores, excluded_cells(loaded, changes.exclude), partial(_resolved, models_dir))
    return PreparedStudy(plan, runs_dir, None, partition, nodes)


def plan_for(
    name: str,
    runs_dir: Path,
    cluster: Cluster,
    partition: str | None,
    changes: StudyChanges = StudyChanges(),
    models_dir: Path = Path("models"),
) -> StudyPlan:
    """Plan a study for ``saman.study``: load it, plan its runs for a cluster, bring their state up to date.

    Args:
        name: A study file, or the name of a shipped study.
        runs_dir: Folder of the runs.
        cluster: The cluster.
        partition: A partition of the cluster.
        changes: Changes of the study, without those of the cluster file and its nodes.
        models_dir: The folder of the models whose versions the experiment names.

    Raises:
        UserError: The study has mistakes.
    """
    from saman.configs.loading.studies import excluded_cells, load_study
    from saman.jobs.reconcile import reconcile
    from saman.scaling.study.execution import unfinished_runs
    from saman.scaling.study.plan import cores_of_nodes, make_plan

    loaded, file = load_study(name, changes.settings)
    cores, cells = cores_of_nodes(cluster, partition), excluded_cells(loaded, changes.exclude)
    plan = make_plan(loaded, file, cores, cells, partial(_resolved, models_dir))
    reconcile(unfinished_runs(plan, runs_dir))
    return plan


def _resolved(models_dir: Path, loaded: LoadedExperiment) -> LoadedExperiment:
    from saman.registry.references import resolved

    return resolved(loaded, models_dir)


def _is_of_the_cluster(text: str) -> bool:
    """Whether ``KEY=VALUE`` changes the cluster file; ``name`` is the study's."""
    from saman.configs.schemas.cluster import Cluster

    key = text.partition("=")[0].split(".")[0]
    return key != "name" and key in Cluster.model_fields


def submit_study(
    study: PreparedStudy,
    cluster: Cluster,
    wait: Callable[[NoRoom], None] = lambda state: None,
    dependency: Dependency | None = None,
) -> SubmittedRuns:
    """Submit the missing and failed runs of a study from Python or a command, in portions if Slurm has no room.

    Each run has its nodes to itself, unless the study says ``whole_nodes: false``: a run beside it would slow it down.

    Args:
        study: The prepared study.
        cluster: Its cluster.
        wait: Receives the reason when Slurm takes no more jobs for now, before the wait for room.
        dependency: What every run waits for.

    Returns:
        The submitted runs; empty if the study is complete.

    Raises:
        UserError: Another process holds the study, its runs could exceed the cap on node-hours, or Slurm refuses them.
        EnvironmentLack: Slurm does not answer.
    """
    from saman.scaling.study.execution import submit_missing
    from saman.slurm.dependencies import NONE
    from saman.slurm.submission.run_submission import SubmissionOptions, SubmittedRuns, submit_experiments

    whole_nodes = study.plan.study.whole_nodes
    options = SubmissionOptions(
        runs_dir=study.runs_dir,
        partition=study.partition,
        whole_nodes=whole_nodes,
        exclude=study.avoid,
        dependency=dependency or NONE,
    )
    submitted = SubmittedRuns(())

    def send(wanted: Sequence[PlannedRun]) -> None:
        nonlocal submitted
        submitted = submit_experiments(
            [planned.loaded for planned in wanted], cluster, options, study.plan.study.concurrency, wait
        )

    submit_missing(study.plan, study.runs_dir, send)
    if submitted.submissions and not whole_nodes:
        shared = "whole_nodes is false: runs that share a node slow each other down; the report names those that did"
        return replace(submitted, notes=(*submitted.notes, shared))
    return submitted
