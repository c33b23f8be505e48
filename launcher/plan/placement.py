"""Placement: which process runs which ranks on which node, with which cores and GPUs. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from saman.configs.errors import EnvironmentLack, UserError

if TYPE_CHECKING:
    from saman.configs.schemas.experiment import Resources
    from saman.launcher.node.machine import Node


@dataclass(frozen=True)
class Process:
    """One process: its place, its ranks, and what it may use.

    ``cores`` and ``gpus`` are indices into what the process finds it may use on its node; no core means: all, unpinned.
    """

    index: int
    node: str
    local_index: int
    first_rank: int
    ranks_here: int
    cores: tuple[int, ...] = ()
    gpus: tuple[int, ...] = ()
    threads: int = 1

    @property
    def ranks(self) -> range:
        """The ranks whose devices are in this process."""
        return range(self.first_rank, self.first_rank + self.ranks_here)


@dataclass(frozen=True)
class Placement:
    """Every process of a run, in the order of their ranks, and sentences that say how it came about."""

    processes: tuple[Process, ...]
    cores_per_rank: int
    cores_shared: bool = False
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """The number of ranks."""
        return sum(process.ranks_here for process in self.processes)

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of the nodes, in the order of ranks."""
        return tuple(dict.fromkeys(process.node for process in self.processes))

    def on(self, node: str) -> tuple[Process, ...]:
        """The processes of one node."""
        return tuple(process for process in self.processes if process.node == node)

    def of_rank(self, rank: int) -> Process:
        """The process that runs ``rank``; raises ``ValueError`` where there is none."""
        for process in self.processes:
            if rank in process.ranks:
                return process
        raise ValueError(f"rank {rank} of {self.size}")

    def to_json(self) -> dict[str, Any]:
        """What ``attempts/<n>/placement.json`` holds."""
        return {"schema": 1, **asdict(self)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Placement:
        """The inverse of ``to_json``; raises ``KeyError`` or ``TypeError`` for anything else."""
        processes = (
            Process(**{**item, "cores": tuple(item["cores"]), "gpus": tuple(item["gpus"])})
            for item in value["processes"]
        )
        return cls(tuple(processes), value["cores_per_rank"], value["cores_shared"], tuple(value["notes"]))


def place(resources: Resources, devices_per_process: int, nodes: Sequence[Node]) -> Placement:
    """Put ``resources.ranks`` ranks on the first ``resources.nodes`` of ``nodes``, neighbours in rank on one node.

    ``auto`` cores are those of the smallest node ÷ ranks per node, at least 1, the same for every rank. Where that is
    more than a node has, cores are shared in turn, and a note says so.
    Raises ``UserError`` where ranks do not divide into processes, ``EnvironmentLack`` where a node lacks something.
    """
    here, lacks = nodes[: resources.nodes], list(_lacks(resources, nodes))
    if resources.ranks_per_node % devices_per_process:
        raise UserError(
            f"{resources.ranks_per_node} ranks per node cannot be put into processes of {devices_per_process} devices",
            where="resources.devices_per_process",
            remedy=f"a divisor of {resources.ranks_per_node}",
        )
    if lacks:
        raise _together(lacks)
    cores_per_rank, shared, notes = _cores(resources, here)
    per_node = resources.ranks_per_node // devices_per_process
    spots = [(node, local) for node in here for local in range(per_node)]
    processes = (
        _process(index, node, local, devices_per_process, cores_per_rank, resources.gpus_per_rank)
        for index, (node, local) in enumerate(spots)
    )
    notes += [f"{node.name}: {note}" for node in here for note in node.notes]
    return Placement(tuple(processes), cores_per_rank, shared, tuple(notes))


def _process(index: int, node: Node, local: int, devices: int, cores_per_rank: int, gpus_per_rank: int) -> Process:
    threads = min(node.cores, cores_per_rank * devices)
    gpus = gpus_per_rank * devices
    return Process(
        index=index,
        node=node.name,
        local_index=local,
        first_rank=index * devices,
        ranks_here=devices,
        cores=_taken(local, threads, node.cores) if node.pinnable else (),
        gpus=tuple(range(local * gpus, (local + 1) * gpus)),
        threads=threads,
    )


def _taken(local: int, width: int, cores: int) -> tuple[int, ...]:
    """The next ``width`` cores, beginning again at core 0 after the last one."""
    return tuple(sorted((local * width + step) % cores for step in range(width)))


def _cores(resources: Resources, nodes: Sequence[Node]) -> tuple[int, bool, list[str]]:
    """Cores per rank, whether ranks share cores, and what to say about it."""
    smallest = min(nodes, key=lambda node: node.cores)
    ranks, notes = resources.ranks_per_node, []
    asked = resources.cpus_per_rank
    cores = max(1, smallest.cores // ranks) if asked == "auto" else asked
    shared = cores * ranks > smallest.cores
    if shared:
        notes.append(
            f"{ranks} ranks × {cores} {_plural(cores, 'core')} = {cores * ranks} on the {smallest.cores} "
            f"{_plural(smallest.cores, 'core')} of {smallest.name}: cores are shared, so ranks wait for each other"
        )
    elif asked == "auto":
        left = smallest.cores - cores * ranks
        idle = f", {left} left idle so that every rank has as many" if left else ""
        notes.append(
            f"auto: {smallest.cores} {_plural(smallest.cores, 'core')} ÷ {ranks} {_plural(ranks, 'rank')} per node = "
            f"{cores} per rank{idle}"
        )
    if asked == "auto" and len({node.cores for node in nodes}) > 1:
        notes.append(f"nodes differ; the smallest, {smallest.name} with {smallest.cores} cores, decides for all")
    return cores, shared, notes


def _lacks(resources: Resources, nodes: Sequence[Node]) -> list[EnvironmentLack]:
    """What the nodes lack of what is asked, with numbers."""
    found = []
    if len(nodes) < resources.nodes:
        found.append(
            EnvironmentLack(
                f"{resources.nodes} nodes are asked for, {len(nodes)} {'is' if len(nodes) == 1 else 'are'} here",
                where="resources.nodes",
                remedy=f"resources.nodes={max(1, len(nodes))}, or saman submit on a cluster",
            )
        )
    gpus = resources.gpus_per_rank * resources.ranks_per_node
    for node in nodes[: resources.nodes]:
        if gpus > node.gpus:
            most = node.gpus // resources.gpus_per_rank
            found.append(
                EnvironmentLack(
                    f"{resources.ranks_per_node} ranks × {resources.gpus_per_rank} = {gpus} GPUs are asked for on "
                    f"{node.name}, which has {node.gpus}",
                    where="resources.gpus_per_rank",
                    remedy=f"-np {most * resources.nodes}" if most else "resources.gpus_per_rank=0 trains on cores",
                )
            )
        memory = 0 if resources.memory_per_rank == "auto" else _bytes(resources.memory_per_rank)
        if node.memory_bytes is not None and memory * resources.ranks_per_node > node.memory_bytes:
            found.append(
                EnvironmentLack(
                    f"{resources.ranks_per_node} ranks × {resources.memory_per_rank} of memory are asked for on "
                    f"{node.name}, which has {node.memory_bytes / 2**30:.1f}G",
                    where="resources.memory_per_rank",
                    remedy="auto, or fewer ranks per node",
                )
            )
    return found


def _bytes(size: str) -> int:
    from saman.configs.names import size_bytes

    return size_bytes(size)


def _plural(count: int, word: str) -> str:
    return word if count == 1 else f"{word}s"


def _together(lacks: Sequence[EnvironmentLack]) -> EnvironmentLack:
    """The first of several lacks, carrying the others."""
    first = lacks[0]
    return EnvironmentLack(first.problem, where=first.where, remedy=first.remedy, others=lacks[1:])
