"""Before a long run: what ranks measured on each node, and which nodes stand out. Pure but for reading the files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from saman.configs.files import read_json
from saman.configs.problems import validated
from saman.configs.schemas.script import Script

# measure -> (heading, unit's factor, whether less is better)
MEASURES: Mapping[str, tuple[str, float, bool]] = {
    "start_seconds": ("start, s", 1.0, True),
    "clock_offset_seconds": ("clock offset, ms", 1e3, True),
    "matmul_seconds": ("matmul, ms", 1e3, True),
    "node_bus_bytes_per_second": ("bus within node, GB/s", 1e-9, False),
    "bus_bytes_per_second": ("bus of all, GB/s", 1e-9, False),
}
CLEARLY = 5.0  # spreads (scaled median absolute deviations) from the median; of normal noise 1 node in 1.7 million
FEWEST = 3  # nodes below which none can be called the odd one


@dataclass(frozen=True)
class NodeOutlier:
    """A node that stands out: its value, the nodes' median and spread, in the measure's unit."""

    node: str
    measure: str
    value: float
    median: float
    spread: float

    def sentence(self) -> str:
        """For people."""
        heading = MEASURES[self.measure][0]
        return (
            f"{self.node}: {heading} {self.value:.4g}, where the nodes' median is {self.median:.4g} ± {self.spread:.2g}"
        )


def program(folder: Path, python: str, nodes: int, ranks_per_node: int, time_limit: str = "00:10:00") -> Script:
    """The run that measures, as a program that any start method can start."""
    values = {
        "name": "preflight",
        "command": [python, "-m", "saman.trainers.preflight", str(folder)],
        "directory": str(Path.cwd()),
        "resources": {"nodes": nodes, "ranks_per_node": ranks_per_node, "time_limit": time_limit},
    }
    return validated(Script, values, "preflight")


def read(folder: Path) -> list[dict[str, Any]]:
    """What every rank wrote, in the order of ranks."""
    found = (read_json(file) for file in sorted(folder.glob("rank-*.json")))
    return [one for one in found if isinstance(one, dict) and one.get("schema") == 1]


def by_node(ranks: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Each node's value of each measure, in the measure's unit: the median of its ranks, for the largest message."""
    values: dict[str, dict[str, list[float]]] = {}
    for one in ranks:
        node = values.setdefault(str(one["node"]), {})
        for name, (_, factor, _) in MEASURES.items():
            value = one.get(name)
            if isinstance(value, dict) and value:
                value = value[max(value, key=int)]
            if isinstance(value, (int, float)):
                node.setdefault(name, []).append(float(value) * factor)
    return {node: {name: median(found) for name, found in each.items()} for node, each in values.items()}


def odd_ones(nodes: Mapping[str, Mapping[str, float]]) -> list[NodeOutlier]:
    """Nodes that are far from the others by the others' own spread. An allreduce over all tells nothing of one node.

    The spread is 1.4826 × the median absolute deviation, at least 2 % of the median: below that, timing is noise.
    """
    found = []
    for name, (_, _, less_is_better) in MEASURES.items():
        values = {node: one[name] for node, one in nodes.items() if name in one}
        if len(values) < FEWEST or name == "bus_bytes_per_second":
            continue
        middle = median(values.values())
        spread = 1.4826 * median(abs(value - middle) for value in values.values())
        floor = 1.0 if name == "clock_offset_seconds" else 0.02 * abs(middle)
        spread = max(spread, floor)
        for node, value in values.items():
            worse = value - middle if less_is_better else middle - value
            worse = abs(value - middle) if name == "clock_offset_seconds" else worse
            if worse > CLEARLY * spread:
                found.append(NodeOutlier(node, name, value, middle, spread))
    return found


def option(findings: Sequence[NodeOutlier]) -> str | None:
    """The option of ``saman submit`` that leaves the odd ones out."""
    nodes = sorted({finding.node for finding in findings})
    return f"--exclude {','.join(nodes)}" if nodes else None
