"""A placement: which process runs which ranks on which node, with which cores and GPUs."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from saman.configs.errors import UserError
from saman.launcher.plan.hostlist import compress, expand
from saman.runs.files.whole import write_json
from saman.runs.records.schema import read_record

SCHEMA = 2  # 1 listed every process
_OF_A_PLACE = ("ranks_here", "cores", "gpus", "threads")
_Place = tuple[int, tuple[int, ...], tuple[int, ...], int]


@dataclass(frozen=True)
class Process:
    """A process: its node, its ranks, its cores and GPUs.

    ``cores`` and ``gpus`` are indices into the cores and GPUs that the process is allowed to use on its node. An empty
    tuple of cores disables pinning.
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
        """The ranks that are placed on the devices of this process."""
        return range(self.first_rank, self.first_rank + self.ranks_here)


@dataclass(frozen=True)
class Placement:
    """Every process of a run, in the order of ranks. ``notes`` explain the placement to people."""

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

    def processes_per_node(self) -> dict[str, int]:
        """The number of processes on each node, in the order of ranks."""
        return dict(Counter(process.node for process in self.processes))

    def on(self, node: str) -> tuple[Process, ...]:
        """The processes of one node."""
        return tuple(process for process in self.processes if process.node == node)

    def moved(self, before: str, now: str) -> Placement:
        """The placement with the processes of a node on another node, with the same cores and GPUs there."""
        processes = (replace(each, node=now) if each.node == before else each for each in self.processes)
        return replace(self, processes=tuple(processes))

    def sentence(self) -> str:
        """Processes, nodes and cores per rank in words."""
        return f"{len(self.processes)} processes on {len(self.nodes)} nodes, {self.cores_per_rank} cores per rank"

    def to_json(self) -> dict[str, Any]:
        """Return the values of ``placement.json``: nodes with equal processes share an entry.

        Every rank reads them, so they must not grow with the nodes.
        """
        head = {"cores_per_rank": self.cores_per_rank, "cores_shared": self.cores_shared, "notes": list(self.notes)}
        groups = [
            {"nodes": compress(nodes), "processes": [dict(zip(_OF_A_PLACE, place, strict=True)) for place in places]}
            for places, nodes in _groups(self.processes)
        ]
        with contextlib.suppress(UserError):
            if tuple(_processes(groups)) == self.processes:
                return {"schema": SCHEMA, "groups": groups, **head}
        return {"schema": 1, **asdict(self)}  # not as ``place`` orders them

    def write(self, path: Path) -> None:
        """Put the placement at ``path``, whole."""
        write_json(path, self.to_json())

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Placement:
        """Read the values that ``to_json`` returns; raises ``KeyError`` or ``TypeError`` for other values."""
        return cls(
            processes=tuple(_processes(value["groups"]) if "groups" in value else map(_process, value["processes"])),
            cores_per_rank=value["cores_per_rank"],
            cores_shared=value["cores_shared"],
            notes=tuple(value["notes"]),
        )

    @classmethod
    def read(cls, path: Path) -> Placement | None:
        """Read the placement at ``path``; ``None`` if it is missing or incomplete. Raises ``NewerSchema``."""
        value = read_record(path, SCHEMA)
        try:
            return None if value is None else cls.from_json(value)
        except (KeyError, TypeError, UserError):
            return None


def _process(item: Mapping[str, Any]) -> Process:
    return Process(**{**item, "cores": tuple(item["cores"]), "gpus": tuple(item["gpus"])})


def _groups(processes: tuple[Process, ...]) -> Iterator[tuple[tuple[_Place, ...], list[str]]]:
    """Neighbouring nodes with equal processes: those processes, and the names of the nodes."""
    nodes = ((node, tuple(map(_place, here))) for node, here in groupby(processes, lambda process: process.node))
    for places, group in groupby(nodes, lambda node: node[1]):
        yield places, [name for name, _ in group]


def _place(process: Process) -> _Place:
    return process.ranks_here, process.cores, process.gpus, process.threads


def _processes(groups: list[dict[str, Any]]) -> Iterator[Process]:
    """The processes of the groups, with their indices and first ranks."""
    index = first_rank = 0
    for group in groups:
        places = [
            (place["ranks_here"], tuple(place["cores"]), tuple(place["gpus"]), place["threads"])
            for place in group["processes"]
        ]
        for node in expand(group["nodes"]):
            for local, (ranks, cores, gpus, threads) in enumerate(places):
                yield Process(index, node, local, first_rank, ranks, cores, gpus, threads)
                index, first_rank = index + 1, first_rank + ranks


@dataclass(frozen=True)
class Seat:
    """A process in its placement: what it needs to know of the others.

    Attributes:
        process: The process.
        here: The processes of its node.
        node_index: The number of its node.
        nodes: The number of nodes.
        processes: The number of processes.
        size: The number of ranks.
    """

    process: Process
    here: tuple[Process, ...]
    node_index: int
    nodes: int
    processes: int
    size: int

    @classmethod
    def of(cls, placement: Placement, index: int) -> Seat:
        """The place of process ``index`` in the plan, or of the last process."""
        process = placement.processes[min(index, len(placement.processes) - 1)]
        nodes = placement.nodes
        return cls(
            process=process,
            here=placement.on(process.node),
            node_index=nodes.index(process.node),
            nodes=len(nodes),
            processes=len(placement.processes),
            size=placement.size,
        )

    @classmethod
    def read(cls, path: Path, index: int) -> Seat | None:
        """Read the seat of a process from the placement at ``path``, without building the other nodes' processes.

        Returns:
            The seat, that of the last process if there are too few; ``None`` if the file is missing or incomplete.

        Raises:
            NewerSchema: A newer saman wrote the file.
        """
        value = read_record(path, SCHEMA)
        try:
            if value is not None and "groups" in value:
                return _seat(value["groups"], index)
            placement = None if value is None else Placement.from_json(value)
            return cls.of(placement, index) if placement is not None and placement.processes else None
        except (KeyError, TypeError, ValueError, UserError):
            return None


def _seat(groups: list[dict[str, Any]], index: int) -> Seat | None:
    """The seat of a process: the groups are counted, and only its own node's processes are made."""
    names = [expand(group["nodes"]) for group in groups]
    widths = [len(group["processes"]) for group in groups]
    ranks = [sum(place["ranks_here"] for place in group["processes"]) for group in groups]
    count = sum(len(nodes) * width for nodes, width in zip(names, widths, strict=True))
    index, node, first_rank, begin = min(index, count - 1), 0, 0, 0
    for group, nodes, width, held in zip(groups, names, widths, ranks, strict=True):
        passed = min(len(nodes), (index - begin) // width)
        node, begin, first_rank = node + passed, begin + passed * width, first_rank + passed * held
        if passed < len(nodes):
            alone = _processes([{"nodes": nodes[passed], "processes": group["processes"]}])
            here = tuple(
                replace(process, index=begin + process.index, first_rank=first_rank + process.first_rank)
                for process in alone
            )
            size = sum(len(each) * per_node for each, per_node in zip(names, ranks, strict=True))
            return Seat(here[index - begin], here, node, sum(map(len, names)), count, size)
    return None
