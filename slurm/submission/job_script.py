"""The job script: a pure function from a job to text in which every value is quoted.

``shlex`` quotes the shell's lines; the ``#SBATCH`` lines, which Slurm reads with a parser of its own, are quoted for
that parser. The template refuses a value that is not quoted by either.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from saman.configs.errors import UserError
from saman.configs.names import is_name
from saman.configs.schemas.cluster import Cluster
from saman.launcher.starters.start import network_variables
from saman.runs import variables
from saman.runs.paths.run import RunPaths
from saman.runs.paths.runs_folder import array_runs
from saman.slurm.submission.batch_job import SIGNAL, BatchJob, sbatch_options
from saman.slurm.submission.quoting import ShellText, comment, expanded, option, shell


def render(job: BatchJob) -> str:
    """The script of ``job``; raises ``UserError`` for a value that Slurm does not accept."""
    if not is_name(job.name):
        raise UserError(f"{job.name!r} is not a job name", remedy="letters, digits, '.', '_' and '-'")
    return str(_template().render(_values(job)))


@cache
def _template() -> Any:
    """The compiled template: compiling takes longer than a thousand lines of it."""
    from jinja2 import Environment, StrictUndefined

    source = (resources.files("saman.slurm.submission") / "job.sh.j2").read_text(encoding="utf-8")
    environment = Environment(
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined,
        finalize=_only_quoted,
    )  # fmt: skip
    environment.filters["again"] = shell
    return environment.from_string(source)


def _only_quoted(value: Any) -> Any:
    if isinstance(value, (ShellText, int)):
        return value
    raise TypeError(f"the job script got the unquoted value {value!r}")


def _paths_in_the_run() -> dict[str, ShellText]:
    """Paths as the job script names them: relative to the run folder, in which it works."""
    run = RunPaths(Path())
    return {
        "slurm_folder": shell(run.slurm.path),
        "log": shell(run.slurm.log),
        "begun": shell(run.slurm.begun),
        "exclude": shell(run.slurm.exclude),
        "control": shell(run.control),
        "stop_request": shell(run.stop_request),
    }


def _values(job: BatchJob) -> Mapping[str, Any]:
    cluster, software = job.cluster, job.cluster.software
    modules = list(_module_lines(cluster))
    conda = software.conda
    return {
        "title": comment(f"saman job {job.name} on {cluster.name}"),
        "file": comment(shlex.quote(str(job.script))),
        "options": list(sbatch_options(job)),
        "run": shell(job.runs[0]),
        "runs_list": shell(array_runs(job.script.parent)),
        "array": job.array,
        "folder": shell(job.script.parent),
        **_paths_in_the_run(),
        "follow_ups": cluster.requeue.by == "follow-up",
        "modules_or_environment": bool(modules or software.virtualenv or conda),
        "module_lines": modules,
        "virtualenv": _file_below(software.virtualenv, "bin/activate"),
        "conda_root": _file_below(conda.root if conda else None, "etc/profile.d/conda.sh"),
        "conda_environment": expanded(conda.environment) if conda else None,
        "gpus_bound_to_tasks": bool(job.request.gpus_per_node) and job.cluster.gpus.request == "gpus-per-task",
        "cpus_per_task": job.request.cpus_per_task,
        "environment": [ShellText(f"{name}={expanded(value)}") for name, value in environment_of(cluster).items()],
        "python": (expanded if cluster.software.python else shell)(python_of(cluster)),
        "signal": option(SIGNAL),
        "signal_seconds": job.signal_seconds,
        "requeue": cluster.requeue.by == "scontrol",
    }


def _file_below(folder: str | None, name: str) -> ShellText | None:
    return None if folder is None else expanded(Path(folder).expanduser() / name)


def python_of(cluster: Cluster) -> str:
    """The Python that runs saman in the job: the cluster file's, the activated environment's, or this Python."""
    software = cluster.software
    if software.python is not None:
        return str(Path(software.python).expanduser())
    return "python3" if software.virtualenv or software.conda or software.modules.load else sys.executable


def environment_of(cluster: Cluster) -> dict[str, str]:
    """The variables that the job script sets: the cluster file's ``environment`` overrides those of its network."""
    locks = {} if cluster.locks == "auto" else {variables.LOCKS: cluster.locks}
    return {**network_variables(cluster.network.interface), **locks, **cluster.environment}


def _module_lines(cluster: Cluster) -> Iterator[ShellText]:
    modules = cluster.software.modules
    if modules.purge:
        yield ShellText("purge")
    for folder in modules.use:
        yield ShellText(f"use {expanded(folder)}")
    for name in modules.load:
        yield ShellText(f"load {expanded(name)}")
