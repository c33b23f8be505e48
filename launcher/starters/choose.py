"""Chooses the start method: the requested method, or for ``auto`` the best, with the reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from saman.launcher.plan.placement import Placement
from saman.launcher.starters import horovodrun, mpirun, processes, srun, steps
from saman.launcher.starters.start import MachineFacts, RankProgram, Start

STARTERS: dict[str, Callable[[Placement, RankProgram, MachineFacts], Start]] = {
    "processes": processes.start,
    "horovodrun": horovodrun.start,
    "mpirun": mpirun.start,
    "srun": srun.start,
    "steps": steps.start,
}


def make_start(asked: str, placement: Placement, job: RankProgram, facts: MachineFacts) -> Start:
    """The start by the requested method, or by the best method for ``auto``; its first note names method and reason.

    Args:
        asked: the name of the method, or ``auto``.
        placement: the process, node and cores of each rank.
        job: the program of the ranks.
        facts: the machine's MPI, Horovod, Slurm and network.

    Raises:
        EnvironmentLack: The requested method is missing here.
        UserError: The requested method cannot start these ranks.
    """
    name, why = (asked, "requested") if asked != "auto" else choose(placement, job, facts)
    start = STARTERS[name](placement, job, facts)
    return replace(start, notes=(f"start method {name}: {why}", *start.notes))


def choose(placement: Placement, job: RankProgram, facts: MachineFacts) -> tuple[str, str]:
    """The best start method, and the reason.

    Args:
        placement: the process, node and cores of each rank.
        job: the program of the ranks.
        facts: the machine's MPI, Horovod, Slurm and network.

    Returns:
        The method's name and the reason, in words.
    """
    if job.elastic:
        return ("steps" if len(placement.nodes) > 1 else "processes"), "an elastic run uses Gloo"
    if job.loses_workers and len(placement.nodes) == 1:
        return "processes", "workers of parameter servers may be lost one by one"
    if job.loses_workers and facts.in_allocation and facts.srun is not None:
        return "steps", "workers of parameter servers may be lost one by one"
    if facts.site_starter is not None:
        return facts.site_starter, "as the cluster file says"
    if facts.in_allocation and facts.srun is not None:
        return "srun", "this is a Slurm allocation"
    if len(placement.nodes) > 1:
        return "mpirun", f"{len(placement.nodes)} nodes outside a Slurm allocation"
    if not job.horovod:
        return "processes", "the program needs no MPI"
    if len(placement.processes) == 1:
        return "processes", "one process needs no MPI"
    if facts.horovod is None:
        return (
            ("mpirun", f"{facts.mpi} is installed and Horovod is not")
            if facts.mpi
            else ("processes", "no MPI is installed")
        )
    if facts.horovod_speaks_mpi:
        # benchmarks/launcher/allreduce.py, 2 ranks on 2 quiet cores: Gloo took 2.7 to 3.9 times as long, 1 KB to 16 MB.
        return "mpirun", f"Horovod was built with {facts.mpi}, which exchanged faster than Gloo in benchmarks"
    if facts.mpi is None:
        return "processes", "no mpirun is installed"
    return "processes", f"Horovod was not built with {facts.mpi}"
