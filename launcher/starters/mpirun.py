"""Start method ``mpirun``: Open MPI 4 and 5, MPICH and Intel MPI. Their flags differ."""

from __future__ import annotations

from saman.configs.errors import EnvironmentLack
from saman.launcher.node.mpi import Flavour, MpiInstallation
from saman.launcher.plan.placement import Placement
from saman.launcher.starters.start import Command, MachineFacts, RankProgram, Start, common_environment, rank_argv


def start(placement: Placement, job: RankProgram, facts: MachineFacts) -> Start:
    """One ``mpirun`` for all processes.

    Args:
        placement: the process, node and cores of each rank.
        job: the program of the ranks.
        facts: the machine's MPI, Horovod, Slurm and network.

    Raises:
        EnvironmentLack: ``mpirun`` is missing, or Horovod was built with another MPI or without MPI.
    """
    mpi = facts.mpi
    if mpi is None:
        raise EnvironmentLack(
            "no mpirun is installed", where="launch.with", remedy="launch.with=processes, or saman setup --mpi wheel"
        )
    if job.horovod and facts.horovod is not None and not facts.horovod_speaks_mpi:
        built = {None: "without MPI", "openmpi": "with Open MPI", "mpich": "with MPICH"}[facts.horovod.mpi]
        raise EnvironmentLack(
            f"Horovod was built {built}, but {mpi.mpirun} is {mpi}",
            where="launch.with",
            remedy="use Gloo with launch.with=processes, or build Horovod with this MPI: saman setup --mpi system",
        )
    environment = common_environment(placement, job, facts, "mpirun")
    if mpi.flavour is Flavour.OPEN_MPI:
        forward = facts.forward if len(placement.nodes) > 1 else ()
        flags = _open_mpi(placement, facts, mpi, [*environment, *forward])
    else:
        flags = _hydra(placement, facts, mpi)
        environment |= {"I_MPI_PIN": "0"} if mpi.flavour is Flavour.INTEL else {}
    argv = (mpi.mpirun, "-np", str(len(placement.processes)), *flags, *rank_argv(job, facts))
    return Start("mpirun", (Command(argv, environment),), notes=(f"{mpi} starts the ranks",))


def _open_mpi(placement: Placement, facts: MachineFacts, mpi: MpiInstallation, names: list[str]) -> list[str]:
    # The rank wrapper pins, so mpirun must not. Slots come from the placement, not from mpirun's guess.
    if mpi.version >= (5,):
        flags = ["--bind-to", "none", "--map-by", "slot:OVERSUBSCRIBE"]
    else:
        flags = ["--bind-to", "none", "--map-by", "slot", "--oversubscribe"]
    if facts.is_root:
        flags.append("--allow-run-as-root")
    if len(placement.nodes) > 1 or facts.in_allocation:
        flags += ["--host", ",".join(f"{node}:{len(placement.on(node))}" for node in placement.nodes)]
    # By name only: mpirun takes the value from its own environment, so nothing needs quoting.
    for name in dict.fromkeys(names):
        flags += ["-x", name]
    return flags


def _hydra(placement: Placement, facts: MachineFacts, mpi: MpiInstallation) -> list[str]:
    # -genvall forwards mpirun's own environment, so the command line has no values.
    flags = ["-genvall"]
    if mpi.flavour is Flavour.MPICH:
        flags += ["-bind-to", "none"]
    if len(placement.nodes) > 1 or facts.in_allocation:
        flags += ["-hosts", ",".join(placement.nodes), "-ppn", str(len(placement.on(placement.nodes[0])))]
    return flags
