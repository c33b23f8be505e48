"""Which start method: the one asked for, or for ``auto`` the one that suits, with the reason in a sentence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from saman.launcher.plan.placement import Placement
from saman.launcher.starters import horovodrun, mpirun, processes, srun
from saman.launcher.starters.start import MachineFacts, RankProgram, Start

STARTERS: dict[str, Callable[[Placement, RankProgram, MachineFacts], Start]] = {
    "processes": processes.start,
    "horovodrun": horovodrun.start,
    "mpirun": mpirun.start,
    "srun": srun.start,
}


def make_start(asked: str, placement: Placement, job: RankProgram, facts: MachineFacts) -> Start:
    """The start by the method ``asked`` for, or the best for ``auto``; its first note says which and why.

    Raises ``EnvironmentLack`` where what was asked for is missing, ``UserError`` where it cannot do what is asked.
    """
    name, why = (asked, "asked for") if asked != "auto" else choose(placement, job, facts)
    start = STARTERS[name](placement, job, facts)
    return replace(start, notes=(f"start method {name}: {why}", *start.notes))


def choose(placement: Placement, job: RankProgram, facts: MachineFacts) -> tuple[str, str]:
    """The start method that suits, and why."""
    if facts.in_allocation and facts.srun is not None:
        return "srun", "this is a Slurm allocation"
    if len(placement.nodes) > 1:
        return "mpirun", f"{len(placement.nodes)} nodes outside a Slurm allocation"
    if not job.horovod:
        return "processes", "nothing here needs MPI"
    if len(placement.processes) == 1:
        return "processes", "one process needs no MPI"
    if facts.horovod is None:
        return (
            ("mpirun", f"{facts.mpi} is here and Horovod is not")
            if facts.mpi
            else ("processes", "there is no MPI here")
        )
    if facts.horovod_speaks_mpi:
        # benchmarks/launcher/allreduce.py, 2 ranks on 2 quiet cores: Gloo took 2.7 to 3.9 times as long, 1 KB to 16 MB.
        return "mpirun", f"Horovod was built with {facts.mpi}, whose exchanges were faster than Gloo's when measured"
    if facts.mpi is None:
        return "processes", "there is no mpirun here"
    return "processes", f"Horovod was not built with {facts.mpi}"
