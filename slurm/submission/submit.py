"""Submits runs: create the run folder, submit the job, record its id. Many runs become job arrays."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from saman.configs import yaml12
from saman.configs.errors import UserError
from saman.configs.loading.clusters import load_cluster
from saman.configs.schemas.cluster import Cluster
from saman.runs.events import SUBMITTER, EventKind, State
from saman.runs.files.whole import write_whole
from saman.runs.files.write_errors import explain_write_errors
from saman.runs.folder import RunFolder
from saman.runs.paths.runs_folder import array_script, new_array_folder
from saman.runs.trust.run_trust import require_trusted
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
    plan: SubmissionPlan, code_path: Sequence[Path], code: Snapshot | None, models_dir: Path = Path("models")
) -> RunFolder:
    """Create the run folder of a plan, with the cluster file that the job reads.

    Args:
        plan: the checked submission.
        code_path: folders of the user's code.
        code: the copy of that code, if any.
        models_dir: where the run publishes its model.
    """
    moved = [str(code.of(path) if code else path) for path in code_path]
    facts = {"snapshot": code.origin} if code else {}
    spec, models = relocated(plan.spec, code), str(models_dir.absolute())
    run = RunFolder.create(plan.runs_dir, spec, code_path=moved, models_dir=models, **facts)
    run.slurm.path.mkdir(mode=0o755)
    write_whole(run.slurm.cluster, yaml12.dump(plan.cluster.model_dump(mode="json", by_alias=True)))
    return run


def submit(
    plan: SubmissionPlan,
    code_path: Sequence[Path] = (),
    code: Snapshot | None = None,
    models_dir: Path = Path("models"),
    exclude: Sequence[str] = (),
) -> Submission:
    """Create the run folder, submit the job, and record its id; leave nothing behind if Slurm refuses the job.

    Args:
        plan: the checked submission.
        code_path: folders of the user's code.
        code: the copy of that code, if any.
        models_dir: where the run publishes its model.
        exclude: names of nodes that the job must not use.

    Raises:
        UserError: Slurm refuses the job.
    """
    run = create_run(plan, code_path, code, models_dir)
    try:
        return _send(plan, run, exclude)
    except BaseException:
        if run.state is State.CREATED:
            shutil.rmtree(run.path, ignore_errors=True)
            with contextlib.suppress(OSError):  # other runs are in there
                run.group.rmdir()
        raise


def resubmit(run: RunFolder, partition: str | None = None, exclude: Sequence[str] = ()) -> Submission:
    """Submit an existing run again, to the cluster of its first submission.

    Args:
        run: the run folder.
        partition: the partition to use; ``None`` for that of the last submission.
        exclude: names of nodes that the job must not use.

    Raises:
        UserError: the run is another user's, or Slurm refuses the job.
    """
    require_trusted(run, "resume")
    cluster = cluster_of(run)
    last = last_queued(run.events())
    named = partition or (last.partition if last else None)
    return _send(plan(run.spec(), cluster, run.runs_dir, named), run, exclude)


def cluster_of(run: RunFolder) -> Cluster:
    """The cluster file that the run was submitted with."""
    return load_cluster(str(run.slurm.cluster))


def _send(plan: SubmissionPlan, run: RunFolder, exclude: Sequence[str] = ()) -> Submission:
    script = run.slurm.script
    write_whole(script, render(plan.job([run.path], script)))
    excluded = exclude_options(exclude)
    answer = client.submit([*excluded, str(script)])
    if answer.code != 0:
        raise refusal_error(plan, answer)
    job = client.job_id(answer)
    _record(plan, run, job)
    try:
        return Submission(run, job, _follow_ups(plan, run, job, excluded))
    except UserError as error:
        client.scancel(jobs_of(run.events()))
        run.append(EventKind.CANCELLED, SUBMITTER, reason=error.problem)
        raise


def _record(plan: SubmissionPlan, run: RunFolder, job: str) -> None:
    request = plan.choice.request
    record_queued(
        run, job, plan.cluster.name, SUBMITTER, partition=plan.choice.partition.name,
        time_limit_seconds=request.seconds, nodes=request.nodes,
    )  # fmt: skip


def _follow_ups(plan: SubmissionPlan, run: RunFolder, job: str, excluded: Sequence[str] = ()) -> tuple[str, ...]:
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


def submit_many(
    plans: Sequence[SubmissionPlan], make_run: Callable[[SubmissionPlan], RunFolder], concurrency: int | None = None
) -> list[Submission]:
    """Submit many runs as job arrays, one array per distinct request.

    Each run has its own folder and state; its job is ``ARRAY_i`` for task ``i`` of the array.

    Args:
        plans: the checked submissions.
        make_run: creates the run folder of a plan.
        concurrency: number of tasks of an array that run at a time; ``None`` for no limit.

    Returns:
        The submitted runs, grouped by array.

    Raises:
        UserError: Slurm refuses an array; the error says how many runs were submitted before it.
    """
    groups: dict[tuple[object, ...], list[SubmissionPlan]] = {}
    for each in plans:
        key = (each.cluster, each.choice.partition.name, each.choice.request, each.spec.name, each.runs_dir)
        groups.setdefault(tuple(map(repr, key)), []).append(each)
    done: list[Submission] = []
    for group in groups.values():
        try:
            done += _array(group, make_run, concurrency)
        except UserError as error:
            if not done:
                raise
            taken = f"{len(done)} runs are submitted; repeat the command later to submit the rest"
            raise type(error)(error.problem, where=error.where, remedy=taken, others=error.others) from None
    return done


def _array(
    group: Sequence[SubmissionPlan], make_run: Callable[[SubmissionPlan], RunFolder], concurrency: int | None
) -> list[Submission]:
    first = group[0]
    folder = new_array_folder(first.runs_dir)
    with explain_write_errors(folder, "the array's folder"):
        folder.mkdir(parents=True)
    runs = [make_run(each) for each in group]
    script = array_script(folder)
    text = render(first.job([run.path for run in runs], script, array=True, concurrency=concurrency))
    for path in (script, *(run.slurm.script for run in runs)):
        write_whole(path, text)
    answer = client.submit([str(script)])
    if answer.code != 0:
        for run in runs:
            run.append(
                EventKind.FAILED, SUBMITTER, reason="Slurm refused the array", message=client.last_error_line(answer)
            )
        raise refusal_error(first, answer)
    array = client.job_id(answer)
    jobs = [f"{array}_{index}" for index in range(len(runs))]
    for each, run, job in zip(group, runs, jobs, strict=True):
        _record(each, run, job)
    try:
        waiting = [_follow_ups(each, run, job) for each, run, job in zip(group, runs, jobs, strict=True)]
    except UserError as error:
        client.scancel([array, *(job for run in runs for job in jobs_of(run.events())[1:])])
        for run in runs:
            run.append(EventKind.CANCELLED, SUBMITTER, reason=error.problem)
        raise
    return [Submission(*each) for each in zip(runs, jobs, waiting, strict=True)]
