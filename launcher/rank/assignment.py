"""Assigns a process its place in the plan, its cores and its GPUs, on the node where it runs. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from saman.launcher.node.machine import same_node
from saman.launcher.plan.placement import Process, Seat
from saman.runs.ranks.identity import ProcessIdentity


class MisplacedRank(Exception):  # noqa: N818  (a finding)
    """A process runs elsewhere than planned; the run must fail."""


def assign_process(seat: Seat | None, identity: ProcessIdentity, node: str, cores: int) -> Process:
    """This process's entry in the placement; without a placement (started by hand), an equal share of the node.

    Args:
        seat: the planned seat of the process; ``None`` if the process was started by hand.
        identity: the identity that the start method gave this process.
        node: this node's name.
        cores: number of cores that this process may use on the node.

    Raises:
        MisplacedRank: The placement has another node or another number of processes.
    """
    if seat is None:
        local, of = identity.local_process or 0, identity.local_processes or 1
        share = max(1, cores // of)
        mine = tuple(sorted({(local * share + step) % cores for step in range(share)}))
        return Process(
            index=identity.process,
            node=node,
            local_index=local,
            first_rank=identity.process,
            ranks_here=1,
            cores=mine,
            threads=share,
        )
    if identity.processes != seat.processes:
        raise MisplacedRank(
            f"{identity.source} started {identity.processes} process(es) that know of each other, "
            f"{seat.processes} were planned"
        )
    process = seat.process
    if not same_node(process.node, node):
        raise MisplacedRank(
            f"process {process.index} (rank {process.first_rank}) was planned on {process.node}, but is on {node}"
        )
    return process


def usable_cores(allowed: Sequence[int], claim: str | None) -> tuple[int, ...]:
    """The cores that the wrapper of a rank may assign: those of the run (``SAMAN_CORES``), else all allowed cores."""
    names = (claim or "").split(",")
    return tuple(core for core in allowed if str(core) in names) or tuple(allowed)


def select_cores(allowed: Sequence[int], indices: Sequence[int]) -> tuple[int, ...]:
    """The cores for a process: those at ``indices`` of the allowed cores.

    If the starter has already restricted the process to that few cores, it keeps them.
    """
    if not indices or len(allowed) <= len(indices):
        return tuple(allowed)
    if max(indices) < len(allowed):
        return tuple(allowed[index] for index in indices)
    return tuple(dict.fromkeys(allowed[index % len(allowed)] for index in indices))


def select_gpus(visible: Sequence[str], indices: Sequence[int]) -> tuple[str, ...]:
    """The GPUs for a process, by the same rule; raises ``MisplacedRank`` if there are too few."""
    if len(visible) < len(indices):
        raise MisplacedRank(f"{len(indices)} GPUs were planned for this process, {len(visible)} are visible")
    if len(visible) == len(indices):
        return tuple(visible)
    if indices and max(indices) >= len(visible):
        raise MisplacedRank(f"GPU number {max(indices)} was planned for this process, {len(visible)} are visible")
    return tuple(visible[index] for index in indices)
