"""Start method ``mpirun``: Open MPI 4 and 5, MPICH and Intel MPI. Their flags differ."""

from __future__ import annotations

from saman.configs.errors import EnvironmentLack
from saman.launcher.node.mpi import Flavour, MpiInstallation
from saman.launcher.plan.placement import Placement
from saman.launcher.starters.start import (
    Command,
    HostOptions,
    MachineFacts,
    RankProgram,
    Start,
    common_environment,
    host_options,
    rank_argv,
)


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
    hosts = _hosts(placement, job, mpi) if len(placement.nodes) > 1 or facts.in_allocation else HostOptions(())
    if mpi.flavour is Flavour.OPEN_MPI:
        forward = facts.forward if len(placement.nodes) > 1 else ()
        flags = _open_mpi(facts, mpi, hosts, [*environment, *forward])
    else:
        flags = _hydra(mpi, hosts)
        environment |= {"I_MPI_PIN": "0"} if mpi.flavour is Flavour.INTEL else {}
    argv = (mpi.mpirun, "-np", str(len(placement.processes)), *flags, *rank_argv(job, facts))
    return Start("mpirun", (Command(argv, environment),), notes=(f"{mpi} starts the ranks",), files=hosts.files)


def _hosts(placement: Placement, job: RankProgram, mpi: MpiInstallation) -> HostOptions:
    """The nodes and their processes, in the words of the MPI."""
    counts = placement.processes_per_node()
    if mpi.flavour is Flavour.OPEN_MPI:
        listed = [f"{node}:{count}" for node, count in counts.items()]
        lines = [f"{node} slots={count}" for node, count in counts.items()]
        return host_options("--host", listed, lines, "--hostfile", job.host_file)
    hosts = host_options("-hosts", list(counts), list(counts), "-f", job.host_file)
    return HostOptions((*hosts.flags, "-ppn", str(next(iter(counts.values())))), hosts.files)


def _open_mpi(facts: MachineFacts, mpi: MpiInstallation, hosts: HostOptions, names: list[str]) -> list[str]:
    # The rank wrapper pins, so mpirun must not. Slots come from the placement, not from mpirun's guess.
    if mpi.version >= (5,):
        flags = ["--bind-to", "none", "--map-by", "slot:OVERSUBSCRIBE"]
    else:
        flags = ["--bind-to", "none", "--map-by", "slot", "--oversubscribe"]
    if facts.is_root:
        flags.append("--allow-run-as-root")
    flags += hosts.flags
    # By name only: mpirun takes the value from its own environment, so nothing needs quoting.
    for name in dict.fromkeys(names):
        flags += ["-x", name]
    return flags


def _hydra(mpi: MpiInstallation, hosts: HostOptions) -> list[str]:
    # -genvall forwards mpirun's own environment, so the command line has no values.
    flags = ["-genvall"]
    if mpi.flavour is Flavour.MPICH:
        flags += ["-bind-to", "none"]
    return [*flags, *hosts.flags]
