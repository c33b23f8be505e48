"""A placement: which process runs which ranks on which node, with which cores and GPUs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from saman.runs.files.whole import write_json
from saman.runs.records.schema import read_record


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
        """The ranks with devices in this process."""
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

    def on(self, node: str) -> tuple[Process, ...]:
        """The processes of one node."""
        return tuple(process for process in self.processes if process.node == node)

    def sentence(self) -> str:
        """Processes, nodes and cores per rank in words."""
        return f"{len(self.processes)} processes on {len(self.nodes)} nodes, {self.cores_per_rank} cores per rank"

    def to_json(self) -> dict[str, Any]:
        """Return the values of ``placement.json``."""
        return {"schema": 1, **asdict(self)}

    def write(self, path: Path) -> None:
        """Put the placement at ``path``, whole."""
        write_json(path, self.to_json())

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Placement:
        """Read the values that ``to_json`` returns; raises ``KeyError`` or ``TypeError`` for other values."""
        processes = (
            Process(**{**item, "cores": tuple(item["cores"]), "gpus": tuple(item["gpus"])})
            for item in value["processes"]
        )
        return cls(
            processes=tuple(processes),
            cores_per_rank=value["cores_per_rank"],
            cores_shared=value["cores_shared"],
            notes=tuple(value["notes"]),
        )

    @classmethod
    def read(cls, path: Path) -> Placement | None:
        """Read the placement at ``path``; ``None`` if it is missing or incomplete. Raises ``NewerSchema``."""
        value = read_record(path)
        try:
            return None if value is None else cls.from_json(value)
        except (KeyError, TypeError):
            return None
