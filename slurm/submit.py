"""Submitting: render and check everything first, then make the run folder, hand the job to Slurm, record its id."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from saman.configs import yaml12
from saman.configs.cluster import Cluster, load_cluster
from saman.configs.errors import EnvironmentLack, UserError
from saman.configs.experiment import Experiment
from saman.configs.files import write_whole
from saman.configs.names import clock, is_reference
from saman.configs.script import Script
from saman.launcher.run_folder import RunFolder, explained
from saman.slurm import client, quota
from saman.slurm.refusals import refusal
from saman.slurm.request import MIB, Choice, choose
from saman.slurm.script import Job, render
from saman.slurm.snapshot import Snapshot, take

PLACEHOLDER = "RUN-ID"  # stands for the run's id in a dry run


@dataclass(frozen=True)
class Plan:
    """A submission that was rendered and checked, and of which nothing exists yet."""

    spec: Experiment | Script
    cluster: Cluster
    choice: Choice
    runs_dir: Path
    text: str
    notes: tuple[str, ...]

    def job(self, runs: Sequence[Path], script: Path, array: bool = False, concurrency: int | None = None) -> Job:
        """The job for real run folders."""
        return Job(
            self.spec.name, tuple(runs), script, self.cluster, self.choice.partition, self.choice.request,
            array, concurrency,
        )  # fmt: skip


@dataclass(frozen=True)
class Submitted:
    """A run that Slurm has taken."""

    run: RunFolder
    job: str
    follow_ups: tuple[str, ...] = ()


def plan(
    spec: Experiment | Script, cluster: Cluster, runs_dir: Path, partition: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Plan:  # fmt: skip
    """Choose the partition and render the script; touches nothing. Raises ``UserError`` with every obstacle."""
    environ = os.environ if environ is None else environ
    check_starter(spec, cluster)
    choice = choose(cluster, spec, partition)
    run = runs_dir.absolute() / spec.name / PLACEHOLDER
    draft = Plan(spec, cluster, choice, runs_dir, "", ())
    text = render(draft.job([run], run / "slurm" / "job.sbatch"))
    ignored = client.ignored_defaults(environ)
    notes = [f"{name} in your environment is ignored; the cluster file decides" for name in ignored]
    if "SLURM_JOB_ID" in environ:
        job = environ["SLURM_JOB_ID"]
        notes.append(f"submitted from inside job {job}: its SLURM_* and SBATCH_* variables are left out")
    return Plan(spec, cluster, choice, runs_dir, text, (*choice.reasons, *notes))


def check_starter(spec: Experiment | Script, cluster: Cluster) -> None:
    """Refuse starters that cannot reach other nodes of a Slurm job; raises ``UserError``."""
    starter = spec.launch.starter
    if starter in ("processes", "horovodrun") and spec.resources.nodes > 1:
        why = "needs ssh between nodes" if starter == "horovodrun" else "starts processes on its own node alone"
        raise UserError(
            f"{starter} {why}, and {spec.resources.nodes} nodes are asked for",
            where="launch.with",
            remedy=f"auto (here: {cluster.mpi.start}), srun or mpirun",
        )


def check_limits(plan: Plan, count: int = 1) -> list[str]:
    """Warnings from quotas; raises ``UserError`` where a limit forbids the job for ever."""
    partition, request = plan.choice.partition, plan.choice.request
    standing = quota.standing(plan.cluster.account, partition.qos or plan.cluster.qos, partition.name)
    findings = quota.judge(standing.limits, [request] * count, partition.cores_per_node, partition.gpu_type)
    never = [finding for finding in findings if finding.verdict is quota.Verdict.NEVER]
    if never:
        errors = [UserError(finding.sentence(), where="quota") for finding in never]
        raise UserError(errors[0].problem, where="quota", remedy="ask for less, or name another QOS or account in the "
                        "cluster file; --ignore-limits submits all the same", others=errors[1:])  # fmt: skip
    notable = (quota.Verdict.WAITS, quota.Verdict.TIGHT)
    return [finding.sentence() for finding in findings if finding.verdict in notable]


def test_only(plan: Plan) -> str:
    """What Slurm says to the job without taking it: when it would start. Raises ``UserError`` where it refuses."""
    with tempfile.TemporaryDirectory(prefix="saman-test-only-") as folder:
        script = Path(folder) / "job.sbatch"
        script.write_text(plan.text, encoding="utf-8")
        answer = client.would_start([str(script)])
    said = answer.err.strip().splitlines()
    starts = [line.removeprefix("sbatch: ") for line in said if " to start at " in line]
    if answer.code != 0 or not starts:
        raise refused(plan, answer)
    return starts[-1]


def refused(plan: Plan, answer: client.Answer) -> UserError:
    """Slurm's refusal as an error for people; ``EnvironmentLack`` where Slurm itself is away."""
    cluster, partition, request = plan.cluster, plan.choice.partition, plan.choice.request
    asked = {
        "account": cluster.account or "(your default)",
        "partition": partition.name,
        "qos": partition.qos or cluster.qos or "(your default)",
        "time": clock(request.seconds),
        "nodes": str(request.nodes),
        "tasks": str(request.tasks_per_node),
        "cpus": str(request.cpus_per_task),
        "memory": "not asked for" if request.memory_bytes is None else f"{request.memory_bytes // MIB} MiB per node",
        "gpus": f"{request.gpus_per_node} {partition.gpu_type or ''}".strip() + " per node",
        "constraint": "&".join(filter(None, (cluster.constraint, partition.constraint))) or "(none)",
        "reservation": cluster.reservation or "(none)",
    }
    sentence, remedy = refusal(answer.err or answer.out, asked)
    away = "does not answer" in sentence
    return (EnvironmentLack if away else UserError)(sentence, where=f"cluster {cluster.name}", remedy=remedy)


def snapshot(
    spec: Experiment | Script, code_path: Sequence[Path], runs_dir: Path, listed: Sequence[Path] = ()
) -> Snapshot | None:
    """A copy of the code that the run uses, below ``runs_dir/.code``; ``None`` where it uses none of the user's."""
    if isinstance(spec, Script):
        folders: Sequence[Path] = [Path(spec.directory)]
    else:
        named = is_reference(spec.model.build) or is_reference(spec.data.source)
        folders = list(code_path) if named else []
    if not folders:
        return None
    into = runs_dir.absolute() / ".code" / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
    with explained(into, "the copy of your code"):
        into.mkdir(parents=True)
        try:
            return take(folders, into, listed)
        except BaseException:
            shutil.rmtree(into, ignore_errors=True)
            raise


def relocated(spec: Experiment | Script, code: Snapshot | None) -> Experiment | Script:
    """``spec`` as it runs from the copy; a program's arguments that name copied files are named there too."""
    if code is None or not isinstance(spec, Script):
        return spec
    old, new = Path(spec.directory).resolve(), code.of(Path(spec.directory))
    command = [_moved(argument, old, new) for argument in spec.command]
    return spec.model_copy(update={"directory": str(new), "command": command})


def _moved(argument: str, old: Path, new: Path) -> str:
    path = Path(argument)
    if path.is_absolute() and old in path.parents and (new / path.relative_to(old)).is_file():
        return str(new / path.relative_to(old))
    return argument


def create_run(
    plan: Plan, code_path: Sequence[Path], code: Snapshot | None, models_dir: Path = Path("models")
) -> RunFolder:
    """The run folder with the cluster's file in it, which the job reads; it publishes to ``models_dir``."""
    moved = [str(code.of(path) if code else path) for path in code_path]
    facts = {"snapshot": code.origin} if code else {}
    spec, models = relocated(plan.spec, code), str(models_dir.absolute())
    run = RunFolder.create(plan.runs_dir, spec, code_path=moved, models_dir=models, **facts)
    (run.path / "slurm").mkdir()
    write_whole(run.path / "slurm" / "cluster.yaml", yaml12.dump(plan.cluster.model_dump(mode="json", by_alias=True)))
    return run


def submit(
    plan: Plan, code_path: Sequence[Path] = (), code: Snapshot | None = None, models_dir: Path = Path("models"),
    exclude: Sequence[str] = (),
) -> Submitted:  # fmt: skip
    """Make the run folder, submit the job, record its id. Leaves nothing behind where Slurm refuses."""
    run = create_run(plan, code_path, code, models_dir)
    try:
        return _send(plan, run, exclude)
    except BaseException:
        if run.state.value == "created":
            shutil.rmtree(run.path, ignore_errors=True)
        raise


def resubmit(run: RunFolder, partition: str | None = None, exclude: Sequence[str] = ()) -> Submitted:
    """Submit an existing run again, on the cluster that it was made for."""
    cluster = cluster_of(run)
    last = next((event for event in reversed(run.events()) if event.kind == "queued"), None)
    named = partition or (str(last.facts["partition"]) if last and "partition" in last.facts else None)
    return _send(plan(run.spec(), cluster, run.path.parent.parent, named), run, exclude)


def cluster_of(run: RunFolder) -> Cluster:
    """The cluster file that the run was submitted with."""
    return load_cluster(str(run.path / "slurm" / "cluster.yaml"))


def _send(plan: Plan, run: RunFolder, exclude: Sequence[str] = ()) -> Submitted:
    script = run.path / "slurm" / "job.sbatch"
    write_whole(script, render(plan.job([run.path], script)))
    excluded = [f"--exclude={','.join(exclude)}"] if exclude else []
    answer = client.submit([*excluded, str(script)])
    if answer.code != 0:
        raise refused(plan, answer)
    job = client.job_id(answer)
    follow_ups = _follow_ups(plan, script, job)
    record_queued(plan, run, job, follow_ups)
    return Submitted(run, job, follow_ups)


def record_queued(plan: Plan, run: RunFolder, job: str, follow_ups: Sequence[str] = ()) -> None:
    """The event by which every other command finds the job."""
    run.append(
        "queued", "submitter", job=job, cluster=plan.cluster.name, partition=plan.choice.partition.name,
        time_limit_seconds=plan.choice.request.seconds, nodes=plan.choice.request.nodes,
        follow_ups=list(follow_ups), log="slurm/job.out",
    )  # fmt: skip


def _follow_ups(plan: Plan, script: Path, job: str) -> tuple[str, ...]:
    """Jobs that start one after the other while those before ended badly, and go away when one ends well.

    Each waits for *all* before it: were one waiting for its predecessor alone, it would start once that one is removed.
    """
    if plan.cluster.requeue.by != "follow-up":
        return ()
    chain = [job]
    for _ in range(plan.cluster.requeue.attempts - 1):
        dependency = ",".join(f"afternotok:{before}" for before in chain)
        answer = client.submit([f"--dependency={dependency}", "--kill-on-invalid-dep=yes", str(script)])
        if answer.code != 0:
            client.cancel(chain)
            raise refused(plan, answer)
        chain.append(client.job_id(answer))
    return tuple(chain[1:])


def submit_many(
    plans: Sequence[Plan], make_run: Callable[[Plan], RunFolder], concurrency: int | None = None
) -> list[Submitted]:
    """Many runs as job arrays, one per distinct request, of which ``concurrency`` run at a time.

    Each run has its own folder and state; task ``i`` of an array is the run's job ``ARRAY_i``.
    """
    groups: dict[tuple[object, ...], list[Plan]] = {}
    for one in plans:
        key = (one.cluster, one.choice.partition.name, one.choice.request, one.spec.name, one.runs_dir)
        groups.setdefault(tuple(map(repr, key)), []).append(one)
    return [done for group in groups.values() for done in _array(group, make_run, concurrency)]


def _array(group: Sequence[Plan], make_run: Callable[[Plan], RunFolder], concurrency: int | None) -> list[Submitted]:
    first = group[0]
    folder = first.runs_dir.absolute() / ".arrays" / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
    with explained(folder, "the array's folder"):
        folder.mkdir(parents=True)
    runs = [make_run(one) for one in group]
    script = folder / "job.sbatch"
    text = render(first.job([run.path for run in runs], script, array=True, concurrency=concurrency))
    for path in (script, *(run.path / "slurm" / "job.sbatch" for run in runs)):
        write_whole(path, text)
    answer = client.submit([str(script)])
    if answer.code != 0:
        for run in runs:
            run.append("failed", "submitter", reason="Slurm refused the array", message=client.last_error(answer))
        raise refused(first, answer)
    job = client.job_id(answer)
    for index, (one, run) in enumerate(zip(group, runs, strict=True)):
        record_queued(one, run, f"{job}_{index}")
    return [Submitted(run, f"{job}_{index}") for index, run in enumerate(runs)]
