"""Places ranks on nodes and cores. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from saman.configs.errors import UserError
from saman.launcher.plan.placement import Placement, Process
from saman.launcher.plan.shortages import combine, find_shortages

if TYPE_CHECKING:
    from saman.configs.schemas.experiment import Resources
    from saman.launcher.node.machine import Node


def place(resources: Resources, devices_per_process: int, nodes: Sequence[Node], warm_spares: int = 0) -> Placement:
    """Place ``resources.ranks`` ranks on the first ``resources.nodes`` of ``nodes``, neighbouring ranks together.

    ``auto`` cores per rank are the cores of the smallest node ÷ ranks per node, at least 1, the same for every rank.
    If a node has fewer cores than its ranks need, they share cores in turn, and a note says so.

    Args:
        resources: the request.
        devices_per_process: ranks in one process.
        nodes: the nodes and what each offers.
        warm_spares: processes beside the ranks, after them: on spare nodes; on the run's node if it has only one.

    Raises:
        UserError: the ranks of a node do not divide into processes.
        EnvironmentLack: a node has too few GPUs or too little memory, or there are too few nodes.
    """
    here, shortages = nodes[: resources.nodes], find_shortages(resources, nodes)
    if resources.ranks_per_node % devices_per_process:
        raise UserError(
            f"{resources.ranks_per_node} ranks per node do not divide into processes of {devices_per_process} devices",
            where="resources.devices_per_process",
            remedy=f"a divisor of {resources.ranks_per_node}",
        )
    if shortages:
        raise combine(shortages)
    cores_per_rank, shared, notes = _cores(resources, here)
    per_node = resources.ranks_per_node // devices_per_process
    spots = [(node, local) for node in here for local in range(per_node)]
    spots += [(node, local) for node in nodes[resources.nodes :] for local in range(per_node)][:warm_spares]
    processes = [
        _process(index, node, local, devices_per_process, cores_per_rank, resources)
        for index, (node, local) in enumerate(spots)
    ]
    if len(nodes) == 1:
        processes += [_unpinned(processes[0], per_node + spare) for spare in range(warm_spares)]
    notes += [f"{node.name}: {note}" for node in here for note in node.notes]
    return Placement(tuple(processes), cores_per_rank, shared, tuple(notes))


def _process(index: int, node: Node, local: int, devices: int, cores_per_rank: int, resources: Resources) -> Process:
    threads = min(node.cores, cores_per_rank * devices)
    gpus = resources.gpus_per_rank * devices
    pinned = node.pinnable and resources.binding == "cores"
    return Process(
        index=index,
        node=node.name,
        local_index=local,
        first_rank=index * devices,
        ranks_here=devices,
        cores=_core_range(local, threads, node.cores) if pinned else (),
        gpus=tuple(range(local * gpus, (local + 1) * gpus)),
        threads=threads,
    )


def _unpinned(first: Process, place: int) -> Process:
    """A spare process on the node of the ranks: the cores of the rank that it replaces are not known yet."""
    rank = place * first.ranks_here
    return replace(first, index=place, local_index=place, first_rank=rank, cores=(), gpus=())


def _core_range(local: int, width: int, cores: int) -> tuple[int, ...]:
    """The next ``width`` cores, from core 0 again after the last."""
    return tuple(sorted((local * width + step) % cores for step in range(width)))


def _cores(resources: Resources, nodes: Sequence[Node]) -> tuple[int, bool, list[str]]:
    """Cores per rank, whether ranks share cores, and notes on both."""
    smallest = min(nodes, key=lambda node: node.cores)
    ranks, asked = resources.ranks_per_node, resources.cpus_per_rank
    cores = max(1, smallest.cores // ranks) if asked == "auto" else asked
    shared = cores * ranks > smallest.cores
    notes = []
    if shared:
        notes.append(_sharing_note(ranks, cores, smallest))
    elif asked == "auto":
        notes.append(_auto_note(ranks, cores, smallest))
    if asked == "auto" and len({node.cores for node in nodes}) > 1:
        notes.append(f"nodes differ; the smallest, {smallest.name} with {smallest.cores} cores, decides for all")
    return cores, shared, notes


def _sharing_note(ranks: int, cores: int, node: Node) -> str:
    return (
        f"{ranks} ranks × {cores} {_plural(cores, 'core')} = {cores * ranks} on the {node.cores} "
        f"{_plural(node.cores, 'core')} of {node.name}: cores are shared, so ranks wait for each other"
    )


def _auto_note(ranks: int, cores: int, node: Node) -> str:
    left = node.cores - cores * ranks
    idle = f"; {left} idle, because every rank gets the same number" if left else ""
    return (
        f"auto: {node.cores} {_plural(node.cores, 'core')} ÷ {ranks} {_plural(ranks, 'rank')} per node = "
        f"{cores} per rank{idle}"
    )


def _plural(count: int, word: str) -> str:
    return word if count == 1 else f"{word}s"
