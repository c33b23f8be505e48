"""Start method ``processes``: this machine, without MPI; Horovod over Gloo, its rendezvous server as a companion."""

from __future__ import annotations

from saman.configs.errors import EnvironmentLack, UserError
from saman.launcher.plan.placement import Placement
from saman.launcher.starters.start import (
    Command,
    MachineFacts,
    RankProgram,
    Start,
    common_environment,
    elastic_environment,
    gloo_environment,
    rank_argv,
    rendezvous,
)
from saman.runs import variables


def start(placement: Placement, job: RankProgram, facts: MachineFacts) -> Start:
    """One command per process, with its index in the environment.

    Args:
        placement: the process, node and cores of each rank.
        job: the program of the ranks.
        facts: the machine's MPI, Horovod, Slurm and network.

    Raises:
        UserError: The placement has several nodes.
        EnvironmentLack: Horovod was built without Gloo.
    """
    if len(placement.nodes) > 1:
        raise UserError(
            f"processes starts ranks on this machine only, but the request is for {len(placement.nodes)} nodes",
            where="launch.with",
            remedy="srun or mpirun spans nodes",
        )
    gloo = job.horovod and facts.horovod is not None
    if gloo and facts.horovod is not None and not facts.horovod.gloo:
        raise EnvironmentLack("Horovod was built without Gloo", where="launch.with", remedy="mpirun, or saman setup")
    if job.elastic and not gloo:
        raise EnvironmentLack("an elastic run needs Horovod", where="launch.elastic", remedy="saman setup")
    common = common_environment(placement, job, facts, "processes")
    if gloo:
        common |= elastic_environment(placement, job) if job.elastic else gloo_environment(job)
    commands = (
        Command(rank_argv(job, facts), {**common, variables.PROCESS: str(process.index)})
        for process in placement.processes
    )
    companions = (rendezvous(placement, job, facts),) if gloo and not job.elastic else ()
    own = (
        "the supervisor decides which ranks form a world"
        if job.elastic
        else ("its rendezvous server runs in a process of its own")
    )
    notes = (f"Horovod uses Gloo; {own}",) if gloo else ()
    return Start("processes", tuple(commands), companions, notes)
