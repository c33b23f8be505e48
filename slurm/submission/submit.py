"""Submitting: make the run folder of a plan, hand its job to Slurm, record the id. Many runs go as job arrays."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from saman.configs import yaml12
from saman.configs.errors import UserError
from saman.configs.files import explained, write_whole
from saman.configs.loading.clusters import load_cluster
from saman.configs.schemas.cluster import Cluster
from saman.runs.folder import RunFolder
from saman.runs.paths import array_script, new_array_folder
from saman.slurm.site import client
from saman.slurm.submission.code_copy import Snapshot, relocated
from saman.slurm.submission.job_script import render
from saman.slurm.submission.planning import SubmissionPlan, plan, refusal_error
from saman.slurm.submission.run_jobs import jobs_of, last_queued, record_follow_ups, record_queued


@dataclass(frozen=True)
class Submission:
    """A run that Slurm has taken."""

    run: RunFolder
    job: str
    follow_ups: tuple[str, ...] = ()


def create_run(
    plan: SubmissionPlan, code_path: Sequence[Path], code: Snapshot | None, models_dir: Path = Path("models")
) -> RunFolder:
    """The run folder with the cluster's file in it, which the job reads; it publishes to ``models_dir``."""
    moved = [str(code.of(path) if code else path) for path in code_path]
    facts = {"snapshot": code.origin} if code else {}
    spec, models = relocated(plan.spec, code), str(models_dir.absolute())
    run = RunFolder.create(plan.runs_dir, spec, code_path=moved, models_dir=models, **facts)
    run.slurm.path.mkdir()
    write_whole(run.slurm.cluster, yaml12.dump(plan.cluster.model_dump(mode="json", by_alias=True)))
    return run


def submit(
    plan: SubmissionPlan,
    code_path: Sequence[Path] = (),
    code: Snapshot | None = None,
    models_dir: Path = Path("models"),
    exclude: Sequence[str] = (),
) -> Submission:
    """Make the run folder, submit the job, record its id. Leaves nothing behind where Slurm refuses."""
    run = create_run(plan, code_path, code, models_dir)
    try:
        return _send(plan, run, exclude)
    except BaseException:
        if run.state.value == "created":
            shutil.rmtree(run.path, ignore_errors=True)
            with contextlib.suppress(OSError):  # other runs are in there
                run.group.rmdir()
        raise


def resubmit(run: RunFolder, partition: str | None = None, exclude: Sequence[str] = ()) -> Submission:
    """Submit an existing run again, on the cluster that it was made for."""
    cluster = cluster_of(run)
    last = last_queued(run.events())
    named = partition or (str(last.facts["partition"]) if last and "partition" in last.facts else None)
    return _send(plan(run.spec(), cluster, run.runs_dir, named), run, exclude)


def cluster_of(run: RunFolder) -> Cluster:
    """The cluster file that the run was submitted with."""
    return load_cluster(str(run.slurm.cluster))


def _send(plan: SubmissionPlan, run: RunFolder, exclude: Sequence[str] = ()) -> Submission:
    script = run.slurm.script
    write_whole(script, render(plan.job([run.path], script)))
    excluded = [f"--exclude={','.join(exclude)}"] if exclude else []
    answer = client.submit([*excluded, str(script)])
    if answer.code != 0:
        raise refusal_error(plan, answer)
    job = client.job_id(answer)
    _record(plan, run, job)
    try:
        return Submission(run, job, _follow_ups(plan, run, job, excluded))
    except UserError as error:
        client.cancel(jobs_of(run.events()))
        run.append("cancelled", "submitter", reason=error.problem)
        raise


def _record(plan: SubmissionPlan, run: RunFolder, job: str) -> None:
    request = plan.choice.request
    record_queued(
        run, job, plan.cluster.name, "submitter", partition=plan.choice.partition.name,
        time_limit_seconds=request.seconds, nodes=request.nodes,
    )  # fmt: skip


def _follow_ups(plan: SubmissionPlan, run: RunFolder, job: str, excluded: Sequence[str] = ()) -> tuple[str, ...]:
    """Jobs of one run that start one after the other while those before ended badly, and go away when one ends well.

    Each waits for *all* before it: were one waiting for its predecessor alone, it would start once that one is removed.
    A task of an array has its own too: Slurm knows no array whose tasks start where their counterparts failed.
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


def submit_many(
    plans: Sequence[SubmissionPlan], make_run: Callable[[SubmissionPlan], RunFolder], concurrency: int | None = None
) -> list[Submission]:
    """Many runs as job arrays, one per distinct request, of which ``concurrency`` run at a time.

    Each run has its own folder and state; task ``i`` of an array is the run's job ``ARRAY_i``.
    """
    groups: dict[tuple[object, ...], list[SubmissionPlan]] = {}
    for one in plans:
        key = (one.cluster, one.choice.partition.name, one.choice.request, one.spec.name, one.runs_dir)
        groups.setdefault(tuple(map(repr, key)), []).append(one)
    done: list[Submission] = []
    for group in groups.values():
        try:
            done += _array(group, make_run, concurrency)
        except UserError as error:
            if not done:
                raise
            taken = f"the {len(done)} runs before it are submitted; the same command submits the rest later"
            raise type(error)(error.problem, where=error.where, remedy=taken, others=error.others) from None
    return done


def _array(
    group: Sequence[SubmissionPlan], make_run: Callable[[SubmissionPlan], RunFolder], concurrency: int | None
) -> list[Submission]:
    first = group[0]
    folder = new_array_folder(first.runs_dir)
    with explained(folder, "the array's folder"):
        folder.mkdir(parents=True)
    runs = [make_run(one) for one in group]
    script = array_script(folder)
    text = render(first.job([run.path for run in runs], script, array=True, concurrency=concurrency))
    for path in (script, *(run.slurm.script for run in runs)):
        write_whole(path, text)
    answer = client.submit([str(script)])
    if answer.code != 0:
        for run in runs:
            run.append("failed", "submitter", reason="Slurm refused the array", message=client.last_error(answer))
        raise refusal_error(first, answer)
    array = client.job_id(answer)
    jobs = [f"{array}_{index}" for index in range(len(runs))]
    for one, run, job in zip(group, runs, jobs, strict=True):
        _record(one, run, job)
    try:
        waiting = [_follow_ups(one, run, job) for one, run, job in zip(group, runs, jobs, strict=True)]
    except UserError as error:
        client.cancel([array, *(job for run in runs for job in jobs_of(run.events())[1:])])
        for run in runs:
            run.append("cancelled", "submitter", reason=error.problem)
        raise
    return [Submission(*one) for one in zip(runs, jobs, waiting, strict=True)]
