"""Plans a submission: choose the partition, render the script, check limits, ask Slurm. Creates nothing."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from saman.configs.errors import EnvironmentLack, UserError
from saman.configs.schemas.cluster import Cluster
from saman.configs.schemas.experiment import Experiment
from saman.configs.schemas.script import Script
from saman.configs.units import format_clock
from saman.runs.paths.run import RunPaths
from saman.runs.paths.runs_folder import planned_run
from saman.slurm.site import client
from saman.slurm.site.user_limits import read_user_limits
from saman.slurm.submission.batch_job import BatchJob
from saman.slurm.submission.job_script import render
from saman.slurm.submission.limit_check import LimitVerdict, compare_with_limits
from saman.slurm.submission.program_check import check_program
from saman.slurm.submission.refusals import RequestedResources, read_refusal
from saman.slurm.submission.resource_request import (
    EXPOSED,
    MIB,
    PartitionChoice,
    choose_for_components,
    choose_partition,
    exposes_ports,
)

_log = logging.getLogger(__name__)

PLACEHOLDER = "RUN-ID"  # stands for the run's id in a dry run


@dataclass(frozen=True)
class SubmissionPlan:
    """A submission that is rendered and checked, but not yet created."""

    spec: Experiment | Script
    cluster: Cluster
    choice: PartitionChoice
    runs_dir: Path
    text: str
    notes: tuple[str, ...]
    components: tuple[PartitionChoice, ...] = ()

    def job(self, runs: Sequence[Path], script: Path, array: bool = False, concurrency: int | None = None) -> BatchJob:
        """The job for real run folders.

        Args:
            runs: the run folders, one per task of an array.
            script: the job script.
            array: whether to submit a job array.
            concurrency: number of tasks of the array that run at a time; ``None`` for no limit.
        """
        return BatchJob(
            name=self.spec.name,
            runs=tuple(runs),
            script=script,
            cluster=self.cluster,
            partition=self.choice.partition,
            request=self.choice.request,
            array=array,
            concurrency=concurrency,
            components=self.components,
        )


def plan(
    spec: Experiment | Script, cluster: Cluster, runs_dir: Path, partition: str | None = None,
    environ: Mapping[str, str] | None = None, whole_nodes: bool = False, draw: bool = True,
) -> SubmissionPlan:  # fmt: skip
    """Choose the partition and render the script, without side effects.

    Args:
        spec: the experiment or script.
        cluster: the cluster file.
        runs_dir: the folder of all runs.
        partition: the partition to use; ``None`` for the cheapest that fits.
        environ: the environment of the submission; ``None`` for this process's own.
        whole_nodes: whether the job shares its nodes with no other, whatever the partition says.
        draw: whether to render the script, for people and ``--test-only``; a submission renders its own.

    Raises:
        UserError: The start method does not suit the cluster, or no partition meets the request; the error lists every
            obstacle.
    """
    environ = os.environ if environ is None else environ
    check_starter(spec, cluster)
    if isinstance(spec, Script):
        check_program(spec, cluster)
    choice = choose_partition(cluster, spec, partition, whole_nodes)
    _log.debug("%s: partition %s of %s, %s", spec.name, choice.partition.name, cluster.name, "; ".join(choice.reasons))
    run = planned_run(runs_dir, spec.name, PLACEHOLDER)
    components = choose_for_components(cluster, spec)
    draft = SubmissionPlan(spec, cluster, choice, runs_dir, "", (), components)
    text = render(draft.job([run], RunPaths(run).slurm.script)) if draw else ""
    ignored = client.ignored_defaults(environ)
    notes = [f"{name} in your environment is ignored; the cluster file decides" for name in ignored]
    if "SLURM_JOB_ID" in environ:
        job = environ["SLURM_JOB_ID"]
        notes.append(f"submitted from inside job {job}: its SLURM_* and SBATCH_* variables are ignored")
    if exposes_ports(cluster, choice.partition, choice.request, spec):
        notes.append(f"WARNING: {choice.partition.name}: {EXPOSED}")
    return replace(draft, text=text, notes=(*choice.reasons, *notes))


def check_starter(spec: Experiment | Script, cluster: Cluster) -> None:
    """Refuse to plan a submission with a start method that cannot reach the other nodes of a Slurm job."""
    starter = spec.launch.starter
    nodes = spec.resources.nodes + spec.resources.spare_nodes
    if starter in ("processes", "horovodrun") and nodes > 1:
        why = "needs ssh between nodes" if starter == "horovodrun" else "starts processes on its own node only"
        raise UserError(
            f"{starter} {why}, but the request is for {nodes} nodes",
            where="launch.with",
            remedy=f"auto (here: {cluster.mpi.start}), srun or mpirun",
        )


def check_limits(plan: SubmissionPlan, *more: SubmissionPlan, in_portions: bool = False) -> list[str]:
    """Warnings from the limits of the account and QOS, for jobs on one partition.

    With ``in_portions`` a limit on submitted jobs is a warning: the jobs are submitted as room appears.

    Raises ``UserError`` if a limit forbids any of them.
    """
    partition, requests = (
        plan.choice.partition,
        [choice.request for each in (plan, *more) for choice in (each.choice, *each.components)],
    )
    mine = read_user_limits(plan.cluster.account, partition.qos or plan.cluster.qos, plan.cluster.requested(partition))
    checks = compare_with_limits(mine.limits, requests, partition.cores_per_node, partition.gpu_type)
    later = {LimitVerdict.REFUSED} if in_portions else set()
    forbidding = [check for check in checks if check.verdict.forbids and check.verdict not in later]
    if forbidding:
        errors = [UserError(check.sentence(), where="quota") for check in forbidding]
        remedy = "ask for less, name another QOS or account in the cluster file, or submit anyway with --ignore-limits"
        raise UserError(errors[0].problem, where="quota", remedy=remedy, others=errors[1:])
    return [check.sentence() for check in checks if check.verdict in {LimitVerdict.WAITS, LimitVerdict.TIGHT, *later}]


def test_only(plan: SubmissionPlan, exclude: Sequence[str] = ()) -> str:
    """When Slurm would start the job without the nodes ``exclude``; raises ``UserError`` if Slurm refuses it."""
    with tempfile.TemporaryDirectory(prefix="saman-test-only-") as folder:
        script = Path(folder) / "job.sbatch"
        script.write_text(plan.text, encoding="utf-8")
        answer = client.would_start([*exclude_options(exclude), str(script)])
    said = answer.err.strip().splitlines()
    starts = [line.removeprefix("sbatch: ") for line in said if " to start at " in line]
    if answer.code != 0 or not starts:
        raise refusal_error(plan, answer)
    return starts[-1]


def exclude_options(nodes: Sequence[str]) -> list[str]:
    """The options of sbatch that keep a planned job away from ``nodes``."""
    return [f"--exclude={','.join(nodes)}"] if nodes else []


def refusal_error(plan: SubmissionPlan, answer: client.Answer) -> UserError:
    """Slurm's refusal as an error; ``EnvironmentLack`` if nothing is wrong with the request."""
    refusal = read_refusal(answer.err or answer.out)
    error = EnvironmentLack if refusal.environment_lacks else UserError
    where = f"cluster {plan.cluster.name}"
    return error(refusal.sentence(_requested(plan)), where=where, remedy=refusal.remedy)


def _requested(plan: SubmissionPlan) -> RequestedResources:
    cluster, partition, request = plan.cluster, plan.choice.partition, plan.choice.request
    memory = request.memory_bytes
    return RequestedResources(
        account=cluster.account or "(your default)",
        partition=partition.name,
        qos=partition.qos or cluster.qos or "(your default)",
        time=format_clock(request.seconds),
        nodes=str(request.nodes),
        tasks=str(request.tasks_per_node),
        cpus=str(request.cpus_per_task),
        memory="not requested" if memory is None else f"{memory // MIB} MiB per node",
        gpus=f"{request.gpus_per_node} {partition.gpu_type or ''}".strip() + " per node",
        constraint="&".join(filter(None, (cluster.constraint, partition.constraint))) or "(none)",
        reservation=cluster.reservation or "(none)",
    )
