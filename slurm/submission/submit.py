"""Submits a run: create the run folder, submit the job, record its id."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from saman.configs import yaml12
from saman.configs.errors import UserError
from saman.configs.loading.clusters import load_cluster
from saman.configs.schemas.cluster import Cluster
from saman.runs.events import SUBMITTER, EventKind, State
from saman.runs.files.removal import remove_with_parents
from saman.runs.files.whole import write_whole
from saman.runs.folder import RunFolder
from saman.runs.trust.run_trust import require_trusted
from saman.slurm.dependencies import NONE, Dependency
from saman.slurm.site import client
from saman.slurm.submission.code_copy import Snapshot, relocated
from saman.slurm.submission.job_script import render
from saman.slurm.submission.planning import SubmissionPlan, exclude_options, plan, refusal_error
from saman.slurm.submission.run_jobs import jobs_of, last_queued, record_follow_ups, record_queued


@dataclass(frozen=True)
class Submission:
    """A submitted run: its job, and the follow-up jobs that continue it."""

    run: RunFolder
    job: str
    follow_ups: tuple[str, ...] = ()


def create_run(
    plan: SubmissionPlan,
    code_path: Sequence[Path],
    code: Snapshot | None,
    models_dir: Path = Path("models"),
    step: str | None = None,
    trial: str | None = None,
) -> RunFolder:
    """Create the run folder of a plan, with the cluster file that the job reads.

    Args:
        plan: the checked submission.
        code_path: folders of the user's code.
        code: the copy of that code, if any.
        models_dir: where the run publishes its model.
        step: the step of a workflow, as ``NAME/STEP``.
        trial: the trial of a tuning study.
    """
    moved = [str(code.of(path) if code else path) for path in code_path]
    facts: dict[str, Any] = {"snapshot": code.origin.to_json()} if code else {}
    facts |= {"step": step} if step else {}
    facts |= {"trial": trial} if trial else {}
    spec, models = relocated(plan.spec, code), str(models_dir.absolute())
    run = RunFolder.create(plan.runs_dir, spec, code_path=moved, models_dir=models, **facts)
    run.slurm.path.mkdir(mode=0o755)
    write_whole(run.slurm.cluster, _cluster_text(plan.cluster.model_dump_json(by_alias=True)))
    return run


@cache  # a study's runs have the same cluster
def _cluster_text(values: str) -> str:
    return yaml12.dump(json.loads(values))


def submit(
    plan: SubmissionPlan,
    code_path: Sequence[Path] = (),
    code: Snapshot | None = None,
    models_dir: Path = Path("models"),
    exclude: Sequence[str] = (),
    dependency: Dependency = NONE,
) -> Submission:
    """Create the run folder, submit the job, and record its id; leave nothing behind if Slurm refuses the job.

    Args:
        plan: the checked submission.
        code_path: folders of the user's code.
        code: the copy of that code, if any.
        models_dir: where the run publishes its model.
        exclude: names of nodes that the job must not use.
        dependency: what the job waits for.

    Raises:
        UserError: Slurm refuses the job.
    """
    run = create_run(plan, code_path, code, models_dir)
    try:
        return send(plan, run, exclude, dependency)
    except BaseException:
        if run.state is State.CREATED:
            remove_with_parents(run.path)
        raise


def resubmit(
    run: RunFolder, partition: str | None = None, exclude: Sequence[str] = (), dependency: Dependency = NONE
) -> Submission:
    """Submit an existing run again, to the cluster of its first submission.

    Args:
        run: the run folder.
        partition: the partition to use; ``None`` for that of the last submission.
        exclude: names of nodes that the job must not use.
        dependency: what the job waits for.

    Raises:
        UserError: the run is another user's, or Slurm refuses the job.
    """
    require_trusted(run, "resume")
    cluster = cluster_of(run)
    last = last_queued(run.events())
    named = partition or (last.partition if last else None)
    return send(plan(run.spec(), cluster, run.runs_dir, named), run, exclude, dependency)


def cluster_of(run: RunFolder) -> Cluster:
    """The cluster file that the submission of a run recorded."""
    return load_cluster(str(run.slurm.cluster))


def send(
    plan: SubmissionPlan, run: RunFolder, exclude: Sequence[str] = (), dependency: Dependency = NONE
) -> Submission:
    """Submit the job of an existing run folder, and record its id.

    Args:
        plan: the checked submission.
        run: the run folder.
        exclude: names of nodes that the job must not use.
        dependency: what the job waits for.

    Raises:
        UserError: Slurm refuses the job.
    """
    script = run.slurm.script
    write_whole(script, render(plan.job([run.path], script)))
    excluded = exclude_options(exclude)
    answer = client.submit([*dependency.options(), *excluded, str(script)])
    if answer.code != 0:
        raise refusal_error(plan, answer)
    job = client.job_id(answer)
    record_job(plan, run, job, dependency)
    try:
        return Submission(run, job, submit_follow_ups(plan, run, job, excluded))
    except UserError as error:
        client.scancel(jobs_of(run.events()))
        run.append(EventKind.CANCELLED, SUBMITTER, reason=error.problem)
        raise


def record_job(plan: SubmissionPlan, run: RunFolder, job: str, dependency: Dependency = NONE) -> None:
    """Record a submitted job in its run: partition, time limit, nodes and what it waits for."""
    request = plan.choice.request
    record_queued(
        run, job, plan.cluster.name, SUBMITTER, partition=plan.choice.partition.name,
        time_limit_seconds=request.seconds, nodes=request.nodes, **dependency.facts,
    )  # fmt: skip


def submit_follow_ups(plan: SubmissionPlan, run: RunFolder, job: str, excluded: Sequence[str] = ()) -> tuple[str, ...]:
    """Submit the follow-up jobs of a run: each starts if all jobs before it failed, and is removed if any succeeds.

    A follow-up depends on *all* jobs before it: with a dependency on its predecessor alone it would start as soon as
    Slurm removes it. Each task of an array has its own follow-ups, because Slurm has no dependency between the tasks
    of two arrays for failures.
    """
    if plan.cluster.requeue.by != "follow-up":
        return ()
    script = run.slurm.follow_up_script
    write_whole(script, render(plan.job([run.path], script)))
    chain = [job]
    try:
        for _ in range(plan.cluster.requeue.attempts - 1):
            dependency = ",".join(f"afternotok:{before}" for before in chain)
            options = [f"--dependency={dependency}", "--kill-on-invalid-dep=yes", *excluded]
            answer = client.submit([*options, str(script)])
            if answer.code != 0:
                raise refusal_error(plan, answer)
            chain.append(client.job_id(answer))
    finally:
        record_follow_ups(run, chain[1:])
    return tuple(chain[1:])
