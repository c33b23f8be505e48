"""The job script: one pure function from a job to text, in which nothing can stand unquoted.

The shell's lines are quoted by ``shlex``; the ``#SBATCH`` lines, which Slurm reads with a small parser of its own, are
quoted for that. The template refuses any value that has not been through one of the two.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from saman.configs.errors import UserError
from saman.configs.names import clock, is_name
from saman.configs.schemas.cluster import Cluster, Partition
from saman.launcher.starters.start import network_variables
from saman.slurm.submission.resource_request import MIB, ResourceRequest

SIGNAL = "USR1"
_ARRAY_LOG = "%A_%a.out"


@dataclass(frozen=True)
class BatchJob:
    """All that a job script says. Several ``runs`` make an array, of which ``concurrency`` run at a time."""

    name: str
    runs: tuple[Path, ...]
    script: Path  # where the script is written
    cluster: Cluster
    partition: Partition
    request: ResourceRequest
    array: bool = False
    concurrency: int | None = None

    @property
    def signal_seconds(self) -> int:
        """Seconds before the time limit at which ranks are asked to stop: at most half of it."""
        return min(self.cluster.requeue.seconds_before_end, max(1, self.request.seconds // 2))


class ShellText(str):
    """Text that is safe where it stands in the script."""


def shell(value: str | Path) -> ShellText:
    """One word of bash that means exactly ``value``."""
    text = str(value)
    if "\0" in text:
        raise UserError(f"{text!r} holds a NUL character, which no command can take")
    return ShellText(shlex.quote(text))


def option(text: str) -> ShellText:
    """An option as it stands; whoever calls vouches that it was checked."""
    return ShellText(text)


def path_option(name: str, path: Path, pattern: str = "") -> ShellText:
    """``--name="path"`` as sbatch reads it: ``%`` doubled, quotes and backslashes escaped, then a file name pattern."""
    text = str(path)
    bad = [character for character in text if ord(character) < 32 or ord(character) == 127]
    if bad or "\\" in text:
        what = "a backslash" if not bad else f"the character {bad[0]!r}"
        raise UserError(f"the path holds {what}, which Slurm cannot take", where=text, remedy="another --runs-dir")
    escaped = text.replace("%", "%%").replace('"', '\\"')
    return ShellText(f'--{name}="{escaped}{pattern}"')


def extra_option(text: str) -> ShellText:
    """A line of the cluster file's ``sbatch``; its value, in which the schema allows no quotes, becomes one word."""
    name, equals, value = text.partition("=")
    return ShellText(f'{name}="{value}"' if equals else name)


def comment(text: str) -> ShellText:
    """``text`` on one line, for a comment."""
    return ShellText(text.encode("unicode_escape").decode() if not text.isprintable() else text)


def render(job: BatchJob) -> str:
    """The script of ``job``; raises ``UserError`` for a value that Slurm cannot be given."""
    from jinja2 import Environment, StrictUndefined

    if not is_name(job.name):
        raise UserError(f"{job.name!r} cannot name a job", remedy="letters, digits, '.', '_' and '-'")
    source = (resources.files("saman.slurm.submission") / "job.sh.j2").read_text(encoding="utf-8")
    environment = Environment(
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined,
        finalize=_only_quoted,
    )  # fmt: skip
    environment.filters["again"] = shell
    return environment.from_string(source).render(_values(job))


def _only_quoted(value: Any) -> Any:
    if isinstance(value, (ShellText, int)):
        return value
    raise TypeError(f"the job script was given {value!r} unquoted")


def _values(job: BatchJob) -> Mapping[str, Any]:
    cluster, software = job.cluster, job.cluster.software
    modules = list(_module_lines(cluster))
    conda = software.conda
    return {
        "title": comment(f"saman job {job.name} on {cluster.name}"),
        "file": comment(shlex.quote(str(job.script))),
        "options": list(_options(job)),
        "runs": [shell(run) for run in job.runs],
        "array": job.array,
        "folder": shell(job.script.parent),
        "follow_ups": cluster.requeue.by == "follow-up",
        "modules_or_environment": bool(modules or software.virtualenv or conda),
        "module_lines": modules,
        "virtualenv": shell(Path(software.virtualenv).expanduser() / "bin/activate") if software.virtualenv else None,
        "conda_root": shell(Path(conda.root).expanduser() / "etc/profile.d/conda.sh") if conda else None,
        "conda_environment": shell(conda.environment) if conda else None,
        "gpus_bound_to_tasks": bool(job.request.gpus_per_node) and job.cluster.gpus.request == "gpus-per-task",
        "cpus_per_task": job.request.cpus_per_task,
        "environment": [ShellText(f"{name}={shell(value)}") for name, value in environment_of(cluster).items()],
        "python": shell(python_of(cluster)),
        "signal": option(SIGNAL),
        "signal_seconds": job.signal_seconds,
        "requeue": cluster.requeue.by == "scontrol",
    }


def python_of(cluster: Cluster) -> str:
    """The Python that runs saman in the job: the file's, the activated environment's, or the one running now."""
    software = cluster.software
    if software.python is not None:
        return str(Path(software.python).expanduser())
    return "python3" if software.virtualenv or software.conda or software.modules.load else sys.executable


def environment_of(cluster: Cluster) -> dict[str, str]:
    """The variables that every process of the job gets from the cluster file; what it says by name wins."""
    return {**network_variables(cluster.network.interface), **cluster.environment}


def _module_lines(cluster: Cluster) -> Iterator[ShellText]:
    modules = cluster.software.modules
    if modules.purge:
        yield ShellText("purge")
    for folder in modules.use:
        yield ShellText(f"use {shell(folder)}")
    for name in modules.load:
        yield ShellText(f"load {shell(name)}")


def _options(job: BatchJob) -> Iterator[ShellText]:
    cluster, partition, request = job.cluster, job.partition, job.request
    yield option(f"--job-name={job.name}")
    yield option(f"--partition={partition.name}")
    for name, value in (
        ("account", cluster.account),
        ("qos", partition.qos or cluster.qos),
        ("reservation", cluster.reservation),
    ):
        if value:
            yield option(f"--{name}={value}")
    constraints = [f"({text})" if "|" in text else text for text in (cluster.constraint, partition.constraint) if text]
    if constraints:
        yield option(f'--constraint="{"&".join(constraints)}"')
    yield option(f"--nodes={request.nodes}")
    yield option(f"--ntasks-per-node={request.tasks_per_node}")
    yield option(f"--cpus-per-task={request.cpus_per_task}")
    if request.gpus_per_node:
        yield option(_gpu_option(job))
    if request.memory_bytes is not None:
        yield option(f"--mem={request.memory_bytes // MIB}M")
    if request.whole_nodes:
        yield option("--exclusive")
    yield option(f"--time={clock(request.seconds)}")
    if job.array:
        limit = f"%{job.concurrency}" if job.concurrency else ""
        yield option(f"--array=0-{len(job.runs) - 1}{limit}")
        yield path_option("output", job.script.parent, f"/{_ARRAY_LOG}")
    else:
        yield path_option("output", job.runs[0] / "slurm" / "job.out")
    yield option("--requeue")  # after the loss of a node; by saman itself after a checkpoint
    yield option("--open-mode=append")
    yield option(f"--signal=B:{SIGNAL}@{job.signal_seconds}")
    for line in cluster.sbatch:
        yield extra_option(line)


def _gpu_option(job: BatchJob) -> str:
    per_node = job.request.gpus_per_node
    kind = f"{job.partition.gpu_type}:" if job.cluster.gpus.typed else ""
    if job.cluster.gpus.request == "gres":
        return f"--gres=gpu:{kind}{per_node}"
    if job.cluster.gpus.request == "gpus-per-node":
        return f"--gpus-per-node={kind}{per_node}"
    return f"--gpus-per-task={kind}{per_node // job.request.tasks_per_node}"
