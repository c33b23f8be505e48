"""Start method ``steps``: inside a Slurm allocation, a job step per process; for runs that may lose some."""

from __future__ import annotations

from saman.configs.errors import EnvironmentLack
from saman.launcher.plan.placement import Placement, Process
from saman.launcher.starters.start import (
    NODE_LIST,
    Command,
    MachineFacts,
    RankProgram,
    Start,
    common_environment,
    elastic_environment,
    rank_argv,
)
from saman.runs import variables


def start(placement: Placement, job: RankProgram, facts: MachineFacts) -> Start:
    """One ``srun`` per process, so that a process ends and starts without the others, on whatever node.

    Args:
        placement: the process, node and cores of each rank.
        job: the program of the ranks.
        facts: the machine's Horovod, Slurm and network.

    Raises:
        EnvironmentLack: This is not an allocation, or Horovod or Gloo is missing.
    """
    if facts.srun is None or not facts.in_allocation:
        problem = "a run on several nodes that may lose ranks needs a Slurm allocation"
        where = "launch.elastic" if job.elastic else "launch.with"
        raise EnvironmentLack(problem, where=where, remedy="saman submit, or resources.nodes: 1")
    if job.elastic and (facts.horovod is None or not facts.horovod.gloo):
        problem = "an elastic run needs Horovod with Gloo"
        raise EnvironmentLack(problem, where="launch.elastic", remedy="saman setup")
    # srun splits --export at commas, so everything is set in its own environment and forwarded with ALL.
    common = common_environment(placement, job, facts, "steps")
    common |= elastic_environment(placement, job) if job.elastic else {}
    commands = (
        Command(
            (facts.srun, *_flags(process, placement.cores_shared), *rank_argv(job, facts)),
            {**common, variables.PROCESS: str(process.index), "SRUN_CPUS_PER_TASK": str(process.threads)},
        )
        for process in placement.processes
    )
    notes = ("Horovod uses Gloo; the supervisor decides which ranks form a world",) if job.elastic else ()
    return Start("steps", tuple(commands), notes=notes)


def _flags(process: Process, cores_shared: bool) -> list[str]:
    flags = [
        "--nodes=1",
        "--ntasks=1",
        f"--cpus-per-task={process.threads}",
        f"{NODE_LIST}{process.node}",
        "--overlap",  # ranks of a node share its cores and GPUs; the rank wrapper assigns them
        "--mem=0",  # the job's memory on the node
        "--cpu-bind=none",
        "--mpi=none",
        "--export=ALL",
        "--no-kill",
        "--immediate=60",  # a node that cannot start a step must not keep its rank's place
        "--unbuffered",
    ]
    return [*flags, "--overcommit"] if cores_shared else flags
