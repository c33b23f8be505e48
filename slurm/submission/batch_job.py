"""A batch job, and its ``#SBATCH`` options."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from saman.configs.errors import UserError
from saman.configs.schemas.cluster import Cluster, Partition
from saman.configs.units import format_clock
from saman.runs.paths.run import RunPaths
from saman.slurm.script.quoting import ShellText, extra_option, option, path_option
from saman.slurm.submission.resource_request import MIB, PartitionChoice, ResourceRequest

SIGNAL = "USR1"
_ARRAY_LOG = "%A_%a.out"


@dataclass(frozen=True)
class BatchJob:
    """A job as its script describes it. Several ``runs`` make an array; ``concurrency`` of them run at a time."""

    name: str
    runs: tuple[Path, ...]
    script: Path  # the file of the script
    cluster: Cluster
    partition: Partition
    request: ResourceRequest
    array: bool = False
    concurrency: int | None = None
    components: tuple[PartitionChoice, ...] = ()

    @property
    def signal_seconds(self) -> int:
        """Seconds before the time limit at which ranks are asked to stop; at most half of the limit."""
        return min(self.cluster.requeue.seconds_before_end, max(1, self.request.seconds // 2))


def sbatch_options(job: BatchJob) -> Iterator[ShellText]:
    """The options of the ``#SBATCH`` lines, in order."""
    yield option(f"--job-name={job.name}")
    yield from _site_options(job)
    yield from _resource_options(job.request)
    yield from _sharing_options(job)
    if job.request.gpus_per_node:
        yield option(_gpu_option(job))
    yield option(f"--time={format_clock(job.request.seconds)}")
    if job.array:
        limit = f"%{job.concurrency}" if job.concurrency else ""
        yield option(f"--array=0-{len(job.runs) - 1}{limit}")
        yield path_option("output", job.script.parent, f"/{_ARRAY_LOG}")
    else:
        yield path_option("output", RunPaths(job.runs[0]).slurm.log)
    yield _requeue_option(job)
    if job.request.survives_nodes:
        yield option("--no-kill")
    yield option("--open-mode=append")
    yield option(f"--signal=B:{SIGNAL}@{job.signal_seconds}")
    if job.cluster.export != "all":
        yield option(f"--export={job.cluster.export.upper()}")
    for line in job.cluster.sbatch:
        yield extra_option(line)
    for choice in job.components:
        yield option("hetjob")  # what follows describes another part of the job
        part = replace(job, partition=choice.partition, request=choice.request)
        yield from _site_options(part)
        yield from _resource_options(part.request)
        yield from _sharing_options(part)
        yield option(f"--time={format_clock(part.request.seconds)}")
        yield _requeue_option(part)


def replacement_options(job: BatchJob, log: Path) -> Iterator[ShellText]:
    """The command-line options of a job that holds a node and ends with another job, in order.

    Args:
        job: The name, the place and the request; ``request.seconds`` is what is left of the other job.
        log: The file of its output.
    """
    minutes = job.request.seconds // 60
    yield option(f"--job-name={job.name}")
    yield from map(_as_argument, _site_options(job))
    yield from _resource_options(job.request)
    yield from _sharing_options(job)
    if job.request.gpus_per_node:
        yield option(_gpu_option(job))
    yield option(f"--time={minutes}")
    yield option("--time-min=1")  # a job that waits gets what is left of the other's time
    yield option(f"--deadline=now+{minutes}minutes")
    yield option(f"--output={str(log).replace('%', '%%')}")
    yield option("--open-mode=append")
    yield option("--no-requeue")
    yield from (option(line) for line in job.cluster.sbatch)


def _as_argument(text: ShellText) -> ShellText:
    """An option of a script's line as an argument of a command, which needs no quotes."""
    return option(text.replace('"', ""))


def burst_buffer_lines(job: BatchJob) -> Iterator[ShellText]:
    """The ``#DW`` and ``#BB`` lines of a batch job, filled in; ``UserError`` for a run that they cannot name."""
    buffer = job.cluster.burst_buffer
    if buffer is None:
        return
    if job.array and buffer.uses("run"):
        problem = "the tasks of an array share their lines, but each has its own run folder"
        raise UserError(problem, where="burst_buffer: {run}", remedy="use {name}, or submit the runs one by one")
    values = {"name": job.name, "run": str(job.runs[0]), "nodes": str(job.request.nodes)}
    yield from map(option, buffer.filled(values))


def _site_options(job: BatchJob) -> Iterator[ShellText]:
    cluster, partition = job.cluster, job.partition
    if cluster.requested(partition) is not None:
        yield option(f"--partition={partition.name}")
    values = {"account": cluster.account, "qos": partition.qos or cluster.qos, "reservation": cluster.reservation}
    for name, value in values.items():
        if value:
            yield option(f"--{name}={value}")
    constraints = [f"({text})" if "|" in text else text for text in (cluster.constraint, partition.constraint) if text]
    if constraints:
        yield option(f'--constraint="{"&".join(constraints)}"')


def _resource_options(request: ResourceRequest) -> Iterator[ShellText]:
    yield option(f"--nodes={request.nodes}")
    yield option(f"--ntasks-per-node={request.tasks_per_node}")
    yield option(f"--cpus-per-task={request.cpus_per_task}")
    if request.memory_bytes is not None:
        yield option(f"--mem={request.memory_bytes // MIB}M")


def _sharing_options(job: BatchJob) -> Iterator[ShellText]:
    if job.request.whole_nodes:
        yield option("--exclusive")
    elif job.cluster.exclusive:
        yield option(f"--exclusive={job.cluster.exclusive}")


def _requeue_option(job: BatchJob) -> ShellText:
    # Slurm requeues after a node failure; after a checkpoint saman requeues by itself.
    return option("--no-requeue" if job.cluster.requeue.by == "none" else "--requeue")


def _gpu_option(job: BatchJob) -> str:
    per_node = job.request.gpus_per_node
    kind = f"{job.partition.gpu_type}:" if job.cluster.gpus.typed else ""
    if job.cluster.gpus.request == "gres":
        return f"--gres=gpu:{kind}{per_node}"
    if job.cluster.gpus.request == "gpus-per-node":
        return f"--gpus-per-node={kind}{per_node}"
    return f"--gpus-per-task={kind}{per_node // job.request.tasks_per_node}"
