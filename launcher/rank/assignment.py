"""What a process is given, worked out where it runs: its plan, its cores and GPUs, its environment. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from saman.launcher.node.machine import same_node
from saman.launcher.plan.placement import Placement, Process
from saman.runs.ranks.identity import ProcessIdentity


class MisplacedRank(Exception):  # noqa: N818  (a finding, said in full)
    """A process found itself elsewhere than planned; such a run must fail."""


def planned(placement: Placement | None, identity: ProcessIdentity, node: str, cores: int) -> Process:
    """The plan of this process; without a plan (started by hand), its share of the node by its local numbers.

    Raises ``MisplacedRank`` where the plan speaks of another node or another number of processes.
    """
    if placement is None:
        local, of = identity.local_process or 0, identity.local_processes or 1
        share = max(1, cores // of)
        mine = tuple(sorted({(local * share + step) % cores for step in range(share)}))
        return Process(identity.process, node, local, identity.process, 1, mine, threads=share)
    if identity.processes != len(placement.processes):
        raise MisplacedRank(
            f"{identity.source} started {identity.processes} process(es) that know of each other, "
            f"{len(placement.processes)} were planned"
        )
    process = placement.processes[identity.process]
    if not same_node(process.node, node):
        raise MisplacedRank(
            f"process {process.index} (rank {process.first_rank}) was planned on {process.node}, but is on {node}"
        )
    return process


def kept_cores(allowed: Sequence[int], claim: str | None) -> tuple[int, ...]:
    """The allowed cores that the run keeps to (``SAMAN_CORES``); all of them where it names none that is allowed."""
    names = (claim or "").split(",")
    return tuple(core for core in allowed if str(core) in names) or tuple(allowed)


def chosen_cores(allowed: Sequence[int], indices: Sequence[int]) -> tuple[int, ...]:
    """The cores for a process: those at ``indices`` of the allowed ones.

    Where the starter has already narrowed the process to as few cores as it should get, it keeps them.
    """
    if not indices or len(allowed) <= len(indices):
        return tuple(allowed)
    if max(indices) < len(allowed):
        return tuple(allowed[index] for index in indices)
    return tuple(dict.fromkeys(allowed[index % len(allowed)] for index in indices))


def chosen_gpus(visible: Sequence[str], indices: Sequence[int]) -> tuple[str, ...]:
    """The GPUs for a process, by the same rule; raises ``MisplacedRank`` where there are too few."""
    if len(visible) < len(indices):
        raise MisplacedRank(f"{len(indices)} GPUs were planned for this process, {len(visible)} are visible")
    if len(visible) == len(indices):
        return tuple(visible)
    if indices and max(indices) >= len(visible):
        raise MisplacedRank(f"GPU number {max(indices)} was planned for this process, {len(visible)} are visible")
    return tuple(visible[index] for index in indices)


def rank_variables(
    process: Process, placement: Placement | None, identity: ProcessIdentity, cores: int
) -> dict[str, str]:
    """Who the process is, in variables that are the same under every start method, and its number of threads."""
    size = placement.size if placement else identity.processes
    ranks = process.ranks_here
    variables = {
        "SAMAN_PROCESS": str(process.index),
        "SAMAN_PROCESSES": str(identity.processes),
        "SAMAN_FIRST_RANK": str(process.first_rank),
        "SAMAN_RANKS_HERE": str(ranks),
        "SAMAN_SIZE": str(size),
        "SAMAN_NODE": process.node,
        "SAMAN_CORES_PER_RANK": str(max(1, cores // ranks)),
        "TF_NUM_INTRAOP_THREADS": str(cores),
        # Collectives of several devices in one process wait inside inter-op threads: each needs one of its own.
        "TF_NUM_INTEROP_THREADS": str(max(2, ranks)),
        "OMP_NUM_THREADS": str(cores),
    }
    if placement is not None and len(placement.nodes) == 1:
        variables["SAMAN_ADDRESS"] = "127.0.0.1"
    return variables


def horovod_variables(process: Process, placement: Placement, host: str, port: int) -> dict[str, str]:
    """What Horovod needs to find its peers over Gloo, as horovodrun would set it."""
    nodes = placement.nodes
    variables = {
        "HOROVOD_HOSTNAME": process.node,
        "HOROVOD_RANK": str(process.index),
        "HOROVOD_SIZE": str(len(placement.processes)),
        "HOROVOD_LOCAL_RANK": str(process.local_index),
        "HOROVOD_LOCAL_SIZE": str(len(placement.on(process.node))),
        "HOROVOD_CROSS_RANK": str(nodes.index(process.node)),
        "HOROVOD_CROSS_SIZE": str(len(nodes)),
        "HOROVOD_GLOO_RENDEZVOUS_ADDR": host,
        "HOROVOD_GLOO_RENDEZVOUS_PORT": str(port),
        "HOROVOD_CONTROLLER": "gloo",
        "HOROVOD_CPU_OPERATIONS": "gloo",
    }
    return variables | ({"HOROVOD_GLOO_IFACE": "lo"} if len(nodes) == 1 else {})


def given(environ: Mapping[str, str]) -> frozenset[str]:
    """Names of variables that the user set for the run (``launch.environment``) and that are left alone."""
    return frozenset(environ.get("SAMAN_GIVEN", "").split(","))
