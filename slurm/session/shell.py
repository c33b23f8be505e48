"""``salloc`` with the request and the environment of an experiment. Pure: plans to words."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from saman.runs.paths.run import RunPaths
from saman.runs.paths.runs_folder import planned_run
from saman.slurm.script.quoting import ShellText, expanded, shell
from saman.slurm.script.setup_lines import setup_lines
from saman.slurm.submission.batch_job import sbatch_options
from saman.slurm.submission.job_script import environment_of, python_of
from saman.slurm.submission.planning import SubmissionPlan, exclude_options

# Options of a batch job that an interactive allocation does not have.
_BATCH_ONLY = ("--output", "--open-mode", "--requeue", "--no-requeue", "--signal", "--export")


def salloc_command(plan: SubmissionPlan, exclude: Sequence[str] = (), program: Sequence[str] = ()) -> list[str]:
    """The command that asks for the allocation and starts a shell, or a program, inside it.

    As always with ``salloc``, the shell runs on this machine; ``saman run`` and ``srun`` in it start on the nodes.

    Args:
        plan: The planned submission of the experiment.
        exclude: Names of nodes to avoid.
        program: The program and its arguments; empty for an interactive shell.
    """
    run = planned_run(plan.runs_dir, plan.spec.name)
    options = [
        word
        for text in sbatch_options(plan.job([run], RunPaths(run).slurm.script))
        if text.partition("=")[0] not in _BATCH_ONLY
        for word in shlex.split(text)
    ]
    return ["salloc", *options, *exclude_options(exclude), "bash", "-c", session_text(plan, program)]


def session_text(plan: SubmissionPlan, program: Sequence[str] = ()) -> str:
    """The lines of bash inside the allocation: the set-up of a job on this cluster, then the shell or the program."""
    cluster = plan.cluster
    python = (expanded if cluster.software.python else shell)(python_of(cluster))
    lines = [str(setup_lines(cluster, python) or "")]
    lines += [f"export {name}={expanded(value)}" for name, value in environment_of(cluster).items()]
    beside = shell(str(Path(python_of(cluster)).parent)) if "/" in python_of(cluster) else None
    lines += [f"export PATH={beside}:$PATH"] if beside else []  # `saman` and `python` are those of the jobs
    lines.append("set +eu")
    return "\n".join([*filter(None, lines), f"exec {_last(program)}"])


def _last(program: Sequence[str]) -> ShellText:
    return ShellText(shlex.join(program) if program else "bash -i")
