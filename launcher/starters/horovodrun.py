"""Start method ``horovodrun``: Horovod's own launcher, over MPI or Gloo."""

from __future__ import annotations

from saman.configs.errors import EnvironmentLack
from saman.launcher.node.mpi import Flavour
from saman.launcher.plan.placement import Placement
from saman.launcher.starters.start import (
    Command,
    MachineFacts,
    RankProgram,
    Start,
    common_environment,
    host_options,
    rank_argv,
)


def start(placement: Placement, job: RankProgram, facts: MachineFacts) -> Start:
    """One ``horovodrun`` for all processes.

    Args:
        placement: the process, node and cores of each rank.
        job: the program of the ranks.
        facts: the machine's MPI, Horovod, Slurm and network.

    Raises:
        EnvironmentLack: ``horovodrun`` is missing.
    """
    if facts.horovodrun is None or facts.horovod is None:
        raise EnvironmentLack(
            "horovodrun is not installed",
            where="launch.with",
            remedy="build Horovod with saman setup, or launch.with=auto",
        )
    controller, why = _controller(placement, facts)
    counts = placement.processes_per_node()
    # A single node is this node; by this name horovodrun never tries ssh.
    counts = {"localhost": len(placement.processes)} if len(counts) == 1 else counts
    listed = [f"{node}:{count}" for node, count in counts.items()]
    lines = [f"{node} slots={count}" for node, count in counts.items()]
    hosts = host_options("-H", listed, lines, "-hostfile", job.host_file)
    flags = ["-np", str(len(placement.processes)), *hosts.flags, f"--{controller}"]
    if facts.interfaces:
        flags += ["--network-interfaces", ",".join(facts.interfaces)]
    environment = common_environment(placement, job, facts, "horovodrun")
    return Start(
        "horovodrun",
        (Command((facts.horovodrun, *flags, *rank_argv(job, facts)), environment),),
        files=hosts.files,
        notes=(
            f"horovodrun --{controller}: {why}",
            "horovodrun replaces every rank's exit status by 1; the events have the real exit statuses",
        ),
    )


def _controller(placement: Placement, facts: MachineFacts) -> tuple[str, str]:
    mpi, horovod = facts.mpi, facts.horovod
    if horovod is not None and not horovod.gloo:
        return "mpi", "Horovod was built without Gloo"
    if not facts.horovod_speaks_mpi or mpi is None:
        return "gloo", "Horovod and an MPI of its family are not both installed"
    if mpi.flavour is Flavour.OPEN_MPI and mpi.version >= (5,):
        # It passes Open MPI 4's "-bind-to none", which 5 takes for the executable.
        return "gloo", f"horovodrun --mpi does not work with {mpi}"
    return "mpi", f"Horovod was built with {mpi.flavour.value}"
