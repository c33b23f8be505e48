"""Preflight: the measurements of every rank, and the nodes that are outliers. Only ``read_measurements`` does I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from saman.configs.problems import validated
from saman.configs.schemas.script import Script
from saman.runs.records.preflight import RankMeasurement


@dataclass(frozen=True)
class Measure:
    """A quantity that ranks measure: its heading, the factor to its unit, and whether less is better."""

    heading: str
    factor: float
    less_is_better: bool


MEASURES: Mapping[str, Measure] = {
    "start_seconds": Measure("start, s", 1.0, less_is_better=True),
    "clock_offset_seconds": Measure("clock offset, ms", 1e3, less_is_better=True),
    "matmul_seconds": Measure("matmul, ms", 1e3, less_is_better=True),
    "node_bus_bytes_per_second": Measure("bus within node, GB/s", 1e-9, less_is_better=False),
    "bus_bytes_per_second": Measure("bus of all, GB/s", 1e-9, less_is_better=False),
}
CLEARLY = 5.0  # spreads (scaled median absolute deviations) from the median; of normal noise 1 node in 1.7 million
FEWEST = 3  # nodes needed to call any of them an outlier


@dataclass(frozen=True)
class NodeOutlier:
    """A node far from the others: its value, the nodes' median and spread, in the measure's unit."""

    node: str
    measure: str
    value: float
    median: float
    spread: float

    def sentence(self) -> str:
        """The outlier of a Slurm preflight, for people."""
        heading = MEASURES[self.measure].heading
        return f"{self.node}: {heading} {self.value:.4g}; median of the nodes {self.median:.4g} ± {self.spread:.2g}"


def preflight_script(
    folder: Path, python: str, nodes: int, ranks_per_node: int, time_limit: str = "00:10:00"
) -> Script:
    """The preflight's run on a cluster: a program on every rank that measures.

    Args:
        folder: the folder for the measurements, visible from every node.
        python: the Python interpreter on the nodes.
        nodes: number of nodes.
        ranks_per_node: ranks on each node.
        time_limit: the job's time limit, as ``HH:MM:SS``.
    """
    values = {
        "name": "preflight",
        "command": [python, "-m", "saman.trainers.preflight", str(folder)],
        "directory": str(Path.cwd()),
        "resources": {"nodes": nodes, "ranks_per_node": ranks_per_node, "time_limit": time_limit},
    }
    return validated(Script, values, "preflight")


def node_values(ranks: Iterable[RankMeasurement]) -> dict[str, dict[str, float]]:
    """The value of each measure of a preflight on each node: the median of its ranks.

    A bandwidth is that of the largest message.
    """
    values: dict[str, dict[str, list[float]]] = {}
    for rank in ranks:
        node = values.setdefault(rank.node, {})
        for name, measure in MEASURES.items():
            value = getattr(rank, name)
            if isinstance(value, Mapping):
                value = value[max(value)] if value else None
            if value is not None:
                node.setdefault(name, []).append(float(value) * measure.factor)
    return {node: {name: median(found) for name, found in each.items()} for node, each in values.items()}


def find_outliers(nodes: Mapping[str, Mapping[str, float]]) -> list[NodeOutlier]:
    """Find the nodes whose preflight is far from the others, relative to their spread.

    The spread is 1.4826 × the median absolute deviation, at least 2 % of the median: below that, timing is noise.
    """
    found = []
    for name, measure in MEASURES.items():
        values = {node: each[name] for node, each in nodes.items() if name in each}
        if len(values) < FEWEST or name == "bus_bytes_per_second":
            continue
        middle = median(values.values())
        spread = 1.4826 * median(abs(value - middle) for value in values.values())
        floor = 1.0 if name == "clock_offset_seconds" else 0.02 * abs(middle)
        spread = max(spread, floor)
        for node, value in values.items():
            worse = value - middle if measure.less_is_better else middle - value
            worse = abs(value - middle) if name == "clock_offset_seconds" else worse
            if worse > CLEARLY * spread:
                found.append(NodeOutlier(node, name, value, middle, spread))
    return found


def exclude_option(outliers: Sequence[NodeOutlier]) -> str | None:
    """The option of ``saman submit`` that excludes a preflight's outliers; ``None`` without outliers."""
    nodes = sorted({outlier.node for outlier in outliers})
    return f"--exclude {','.join(nodes)}" if nodes else None
