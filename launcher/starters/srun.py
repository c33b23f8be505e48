"""Start method ``srun``: inside a Slurm allocation, over PMIx, or over Gloo without MPI and ssh."""

from __future__ import annotations

from collections.abc import Sequence

from saman.configs.errors import EnvironmentLack
from saman.launcher.plan.hostlist import compress
from saman.launcher.plan.placement import Placement
from saman.launcher.starters.start import (
    LONGEST_ARGUMENT,
    Command,
    MachineFacts,
    RankProgram,
    Start,
    common_environment,
    gloo_environment,
    rank_argv,
    rendezvous,
)

# Slurm's usual fence, "mixed", does not wait where no data are exchanged (PMIxFenceBarrier in mpi.conf), but Open MPI
# ends MPI_Init with such a fence. "tree" lets the ranks of a node go on when another rank of theirs is late. Either way
# a rank receives messages before it can handle them, and dies of SIGSEGV. "ring" waits for every rank.
_WAITING_FENCE = {"SLURM_PMIX_FENCE": "ring"}


def start(placement: Placement, job: RankProgram, facts: MachineFacts) -> Start:
    """One ``srun`` for all processes.

    Args:
        placement: the process, node and cores of each rank.
        job: the program of the ranks.
        facts: the machine's MPI, Horovod, Slurm and network.

    Raises:
        EnvironmentLack: ``srun`` is missing, or this is not an allocation.
    """
    if facts.srun is None:
        raise EnvironmentLack(
            "srun is not installed", where="launch.with", remedy="launch.with=auto, or run on a cluster"
        )
    if not facts.in_allocation:
        raise EnvironmentLack(
            "srun needs a Slurm allocation", where="launch.with", remedy="saman submit, or saman run inside salloc"
        )
    over_mpi = job.horovod and facts.pmi != "none" and (facts.horovod is None or facts.horovod.mpi is not None)
    gloo = job.horovod and not over_mpi
    environment = common_environment(placement, job, facts, "srun") | (gloo_environment(job) if gloo else {})
    if over_mpi and facts.pmi.startswith("pmix"):
        environment = _WAITING_FENCE | environment
    # srun splits --export at commas, so everything is set in its own environment and forwarded with ALL.
    environment["SRUN_CPUS_PER_TASK"] = str(placement.processes[0].threads)
    argv = (
        facts.srun,
        *_flags(placement, facts.pmi if over_mpi else "none"),
        *facts.srun_options,
        *rank_argv(job, facts),
    )
    why = f"Horovod uses MPI, connected by {facts.pmi}" if over_mpi else "Horovod uses Gloo"
    return Start(
        "srun",
        (Command(argv, environment),),
        (rendezvous(placement, job, facts),) if gloo else (),
        (why,) if job.horovod else (),
    )


def _flags(placement: Placement, pmi: str) -> list[str]:
    nodes, processes = placement.nodes, placement.processes
    flags = [
        f"--nodes={len(nodes)}",
        f"--ntasks={len(processes)}",
        f"--ntasks-per-node={placement.processes_per_node()[nodes[0]]}",
        f"--cpus-per-task={processes[0].threads}",
        *_node_list(nodes),
        "--distribution=block",
        "--cpu-bind=none",  # the rank wrapper pins, within what Slurm allows
        f"--mpi={pmi}",
        "--export=ALL",
        "--kill-on-bad-exit=1",
        "--unbuffered",
    ]
    return [*flags, "--overcommit"] if placement.cores_shared else flags


def _node_list(nodes: Sequence[str]) -> list[str]:
    # Without a list, srun takes the first nodes of the allocation, which the placement takes too.
    names = compress(nodes)
    return [f"--nodelist={names}"] if len(names) <= LONGEST_ARGUMENT else []
