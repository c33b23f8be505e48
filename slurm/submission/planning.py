"""Planning a submission: choose the partition, render the script, hold it against limits, ask Slurm. Makes nothing."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from saman.configs.errors import EnvironmentLack, UserError
from saman.configs.names import clock
from saman.configs.schemas.cluster import Cluster
from saman.configs.schemas.experiment import Experiment
from saman.configs.schemas.script import Script
from saman.slurm.site import client, limits
from saman.slurm.submission import limit_check
from saman.slurm.submission.job_script import BatchJob, render
from saman.slurm.submission.refusals import refusal
from saman.slurm.submission.resource_request import MIB, PartitionChoice, choose

PLACEHOLDER = "RUN-ID"  # stands for the run's id in a dry run


@dataclass(frozen=True)
class SubmissionPlan:
    """A submission that was rendered and checked, and of which nothing exists yet."""

    spec: Experiment | Script
    cluster: Cluster
    choice: PartitionChoice
    runs_dir: Path
    text: str
    notes: tuple[str, ...]

    def job(self, runs: Sequence[Path], script: Path, array: bool = False, concurrency: int | None = None) -> BatchJob:
        """The job for real run folders."""
        return BatchJob(
            self.spec.name, tuple(runs), script, self.cluster, self.choice.partition, self.choice.request,
            array, concurrency,
        )  # fmt: skip


def plan(
    spec: Experiment | Script, cluster: Cluster, runs_dir: Path, partition: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> SubmissionPlan:  # fmt: skip
    """Choose the partition and render the script; touches nothing. Raises ``UserError`` with every obstacle."""
    environ = os.environ if environ is None else environ
    check_starter(spec, cluster)
    choice = choose(cluster, spec, partition)
    run = runs_dir.absolute() / spec.name / PLACEHOLDER
    draft = SubmissionPlan(spec, cluster, choice, runs_dir, "", ())
    text = render(draft.job([run], run / "slurm" / "job.sbatch"))
    ignored = client.ignored_defaults(environ)
    notes = [f"{name} in your environment is ignored; the cluster file decides" for name in ignored]
    if "SLURM_JOB_ID" in environ:
        job = environ["SLURM_JOB_ID"]
        notes.append(f"submitted from inside job {job}: its SLURM_* and SBATCH_* variables are left out")
    return SubmissionPlan(spec, cluster, choice, runs_dir, text, (*choice.reasons, *notes))


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


def check_limits(plan: SubmissionPlan, *more: SubmissionPlan) -> list[str]:
    """Warnings from quotas for jobs on one partition; raises ``UserError`` where a limit forbids one."""
    partition, requests = plan.choice.partition, [one.choice.request for one in (plan, *more)]
    mine = limits.standing(plan.cluster.account, partition.qos or plan.cluster.qos, partition.name)
    findings = limit_check.judge(mine.limits, requests, partition.cores_per_node, partition.gpu_type)
    refused = [
        one for one in findings if one.verdict in (limit_check.LimitVerdict.NEVER, limit_check.LimitVerdict.REFUSED)
    ]
    if refused:
        errors = [UserError(finding.sentence(), where="quota") for finding in refused]
        raise UserError(errors[0].problem, where="quota", remedy="ask for less, or name another QOS or account in the "
                        "cluster file; --ignore-limits submits all the same", others=errors[1:])  # fmt: skip
    notable = (limit_check.LimitVerdict.WAITS, limit_check.LimitVerdict.TIGHT)
    return [finding.sentence() for finding in findings if finding.verdict in notable]


def test_only(plan: SubmissionPlan) -> str:
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


def refused(plan: SubmissionPlan, answer: client.Answer) -> UserError:
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
