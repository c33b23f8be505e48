"""``rank-<n>.json``: what a rank measured before a long run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from saman.runs.files.whole import write_json
from saman.runs.records.schema import mapping, number, read_record


@dataclass(frozen=True, kw_only=True)
class RankMeasurement:
    """The measurements of a rank. A measure that the rank did not take is ``None`` or empty.

    Attributes:
        rank: The rank.
        size: The number of ranks.
        node: The name of the rank's node.
        start_seconds: From the start of the run until all ranks had met.
        clock_offset_seconds: This node's clock minus rank 0's.
        matmul_seconds: A product of two float32[512, 512] matrices.
        bus_bytes_per_second: Bus bandwidth of an allreduce over all ranks, by the bytes of its message.
        node_bus_bytes_per_second: The same over the ranks of the node.
    """

    node: str
    rank: int = 0
    size: int = 1
    start_seconds: float | None = None
    clock_offset_seconds: float | None = None
    matmul_seconds: float | None = None
    bus_bytes_per_second: Mapping[int, float] = field(default_factory=dict)
    node_bus_bytes_per_second: Mapping[int, float] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write the record into ``folder``, whole."""
        write_json(folder / f"rank-{self.rank:05d}.json", {"schema": 1, **asdict(self)})

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RankMeasurement:
        """Return the measurements from the values of a file."""
        return cls(
            node=str(value["node"]),
            rank=int(value.get("rank", 0)),
            size=int(value.get("size", 1)),
            start_seconds=number(value.get("start_seconds")),
            clock_offset_seconds=number(value.get("clock_offset_seconds")),
            matmul_seconds=number(value.get("matmul_seconds")),
            bus_bytes_per_second=_by_size(value.get("bus_bytes_per_second")),
            node_bus_bytes_per_second=_by_size(value.get("node_bus_bytes_per_second")),
        )


def read_measurements(folder: Path) -> list[RankMeasurement]:
    """Read the records of all ranks in ``folder``, in the order of ranks. Raises ``NewerSchema``."""
    values = (read_record(file) for file in sorted(folder.glob("rank-*.json")))
    return [RankMeasurement.from_json(value) for value in values if value is not None and "node" in value]


def _by_size(value: object) -> dict[int, float]:
    return {int(size): float(bandwidth) for size, bandwidth in mapping(value).items()}
