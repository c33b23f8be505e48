"""The job script: a pure function from a job to text in which every value is quoted.

``shlex`` quotes the shell's lines; the ``#SBATCH`` lines, which Slurm reads with a parser of its own, are quoted for
that parser. The template refuses a value that is not quoted by either.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from saman.configs.errors import UserError
from saman.configs.home_folder import in_home
from saman.configs.names import is_name
from saman.configs.schemas.cluster import Cluster
from saman.launcher.starters.start import network_variables
from saman.runs import variables
from saman.runs.paths.run import RunPaths
from saman.runs.paths.runs_folder import array_runs
from saman.slurm.script.quoting import ShellText, comment, expanded, option, shell
from saman.slurm.script.setup_lines import setup_lines, steps_of
from saman.slurm.script.templates import template
from saman.slurm.submission.batch_job import SIGNAL, BatchJob, burst_buffer_lines, sbatch_options


def render(job: BatchJob) -> str:
    """The script of ``job``; raises ``UserError`` for a value that Slurm does not accept."""
    if not is_name(job.name):
        raise UserError(f"{job.name!r} is not a job name", remedy="letters, digits, '.', '_' and '-'")
    return str(template("saman.slurm.submission", "job.sh.j2").render(_values(job)))


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
    cluster = job.cluster
    python = (expanded if cluster.software.python else shell)(python_of(cluster))
    return {
        "title": comment(f"saman job {job.name} on {cluster.name}"),
        "file": comment(shlex.quote(str(job.script))),
        "options": list(sbatch_options(job)),
        "burst_buffer": list(burst_buffer_lines(job)),
        "export": option(cluster.export),
        "run": shell(job.runs[0]),
        "runs_list": shell(array_runs(job.script.parent)),
        "array": job.array,
        "folder": shell(job.script.parent),
        **_paths_in_the_run(),
        "follow_ups": cluster.requeue.by == "follow-up",
        "setup": setup_lines(cluster, python),
        "gpus_bound_to_tasks": bool(job.request.gpus_per_node) and job.cluster.gpus.request == "gpus-per-task",
        "cpus_per_task": job.request.cpus_per_task,
        "environment": [ShellText(f"{name}={expanded(value)}") for name, value in environment_of(cluster).items()],
        "python": python,
        "signal": option(SIGNAL),
        "signal_seconds": job.signal_seconds,
        "requeue": cluster.requeue.by == "scontrol",
    }


def python_of(cluster: Cluster) -> str:
    """The Python that runs saman in the job: the cluster file's, the activated environment's, or this Python."""
    if cluster.software.python is not None:
        return str(in_home(cluster.software.python))
    return "python3" if any(step.brings_python for _, step in steps_of(cluster)) else sys.executable


def environment_of(cluster: Cluster) -> dict[str, str]:
    """The variables that the job script sets: the cluster file's ``environment`` overrides those of its network."""
    own: dict[str, str] = {} if cluster.locks == "auto" else {variables.LOCKS: cluster.locks}
    own |= {variables.NEAREST_ADAPTER: "1"} if cluster.network.nearest_adapter else {}
    if cluster.stage_out is not None:
        own[variables.LOCAL_RESULTS] = f"{cluster.node_local}/saman-$SLURM_JOB_ID/results"
    return {**network_variables(cluster.network.interfaces), **own, **cluster.variables}
