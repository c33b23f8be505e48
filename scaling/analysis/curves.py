"""A curve over ranks: its points, its baseline, the weights of the laws, and what their stack predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from saman.scaling.analysis.baselines import Baseline
from saman.scaling.analysis.groups import RunGroup
from saman.scaling.analysis.points import CurvePoint
from saman.scaling.models.boundaries import Boundary
from saman.scaling.models.laws import ScalingPoint
from saman.scaling.models.memory import MemoryTraffic, memory_traffic, saturates
from saman.scaling.stack.forecast import LawChoice, ThroughputForecast


@dataclass(frozen=True)
class RefusedForecast:
    """A rank count that would share cores, beyond a curve whose ranks have cores of their own."""

    ranks: int
    nodes: int
    cores_wanted: int
    cores_of_node: int

    @property
    def words(self) -> str:
        """Why a curve is not continued, in words."""
        on = "1 node" if self.nodes == 1 else f"{self.nodes} nodes"
        return (
            f"{self.ranks} ranks on {on} want {self.cores_wanted} cores per node of {self.cores_of_node}: ranks would "
            "share cores, and this curve has no point at which they do"
        )


@dataclass(frozen=True)
class Contention:
    """The growth of CPU seconds per sample, as a share, from ``few`` to ``many`` ranks on a node with cores for all.

    The work is the same. Its threads run as long, but wait for memory: bandwidth and caches are shared.
    ``cpu_seconds`` are those of a sample with ``few`` ranks.
    """

    few: int
    many: int
    growth: float
    cpu_seconds: float


@dataclass(frozen=True)
class Curve:
    """Points over ranks with their baseline, the weights of the laws and the predictions of their stack.

    ``choice`` holds the weights of the laws; None below three points and for a curve that is not drawn. ``refused`` are
    rank counts that are not predicted, because they lie beyond a boundary behind which nothing was measured.
    """

    group: RunGroup
    points: tuple[CurvePoint, ...]
    baseline: Baseline | None
    choice: LawChoice | None
    predictions: tuple[ThroughputForecast, ...]
    refused: tuple[RefusedForecast, ...] = ()

    @property
    def label(self) -> str:
        """The name of the curve."""
        return self.group.label

    def core_bound(self, nodes: int) -> float | None:
        """The rate that the cores of nodes cannot exceed, in samples per second: cores ÷ CPU seconds per sample.

        The CPU seconds are the fewest of all points: ranks that wait may poll, which is CPU time but no work.

        Args:
            nodes: Number of nodes.

        Returns:
            The bound; None where CPU seconds or cores are unknown.
        """
        known = [point.cpu_seconds_per_sample for point in self.points if point.cpu_seconds_per_sample]
        cores = self.group.runs[-1].facts.node_cores if self.group.runs else None
        return nodes * cores / min(known) if known and cores else None

    def memory_bound(self, nodes: int) -> float | None:
        """The rate that the memory of nodes cannot exceed, in samples per second: bandwidth ÷ bytes per sample.

        It is never less than what a measured node did.

        Args:
            nodes: Number of nodes.

        Returns:
            The bound; None where the bandwidth of a node or the bytes of a sample are unknown.
        """
        traffic = self.memory_traffic
        measured = max((point.throughput.value / point.nodes for point in self.points), default=0.0)
        return nodes * max(traffic.samples_per_second, measured) if traffic else None

    def within_nodes(self) -> Curve:
        """The curve with predictions that are no higher than the cores and the memory of the nodes allow."""
        return replace(self, predictions=tuple(map(self._within_nodes, self.predictions)))

    def _within_nodes(self, ahead: ThroughputForecast) -> ThroughputForecast:
        bounds = {"cores": self.core_bound(ahead.nodes), "memory bandwidth": self.memory_bound(ahead.nodes)}
        known = [(bound, what) for what, bound in bounds.items() if bound is not None]
        if not known:
            return ahead
        bound, what = min(known)
        if ahead.throughput <= bound and (ahead.high is None or ahead.high <= bound):
            return ahead
        low, high = (None if edge is None else min(edge, bound) for edge in (ahead.low, ahead.high))
        nodes = f"{ahead.nodes} node{'s' if ahead.nodes != 1 else ''}"
        reason = f"limited by the {what} of {nodes} to {bound:,.4g} samples/s"
        caution = f"{ahead.caution}; {reason}" if ahead.caution else reason
        return replace(ahead, throughput=min(ahead.throughput, bound), low=low, high=high, caution=caution)

    @property
    def contention(self) -> Contention | None:
        """How much more CPU time a sample costs on full nodes; None where it is unknown or ranks take turns."""
        known = [
            (point.ranks_per_node, cpu)
            for point in self.points
            if (cpu := point.work_cpu_seconds_per_sample) is not None
        ]
        if self.group.cores_shared or len({ranks for ranks, _ in known}) < 2:
            return None
        (few, least), (many, most) = min(known), max(known)
        return Contention(few, many, most / least - 1.0, least) if least > 0 else None

    @property
    def memory_traffic(self) -> MemoryTraffic | None:
        """The memory traffic of a sample, from contention; None where the bandwidth of the node is unknown."""
        contention, facts = self.contention, self.group.runs[-1].facts
        if contention is None or facts.memory_bandwidth is None or not facts.cores_per_rank:
            return None
        few, many = (
            min(ranks * facts.cores_per_rank, facts.node_cores or ranks * facts.cores_per_rank)
            for ranks in (contention.few, contention.many)
        )
        growth, cpu = contention.growth, contention.cpu_seconds
        return memory_traffic(facts.memory_bandwidth, few, many, cpu, growth)

    @property
    def points_beyond_baseline(self) -> tuple[CurvePoint, ...]:
        """The points on more ranks than the baseline; none without a baseline."""
        if self.baseline is None:
            return ()
        return tuple(point for point in self.points if point.ranks > self.baseline.ranks)


def common_ranks(curves: Sequence[Curve]) -> int | None:
    """The largest rank count at which curves compare: of two series at least, half as many as the commonest."""
    counts = [point.ranks for curve in curves for point in curve.points]
    most = max((counts.count(n) for n in counts), default=0)
    return max((n for n in counts if counts.count(n) >= max(2, most / 2)), default=None)


def refuse_shared_cores(
    group: RunGroup, places: Sequence[ScalingPoint]
) -> tuple[list[ScalingPoint], tuple[RefusedForecast, ...]]:
    """Divide the places on a curve into those that may be predicted and those with shared cores.

    Args:
        group: The runs of the curve.
        places: Ranks and nodes to predict.
    """
    facts = group.runs[-1].facts
    if group.cores_shared or not facts.node_cores or not facts.cores_per_rank:
        return list(places), ()
    allowed, refused = [], []
    for place in places:
        wanted = -(-place.ranks // place.nodes) * facts.cores_per_rank
        if wanted > facts.node_cores:
            refused.append(RefusedForecast(place.ranks, place.nodes, wanted, facts.node_cores))
        else:
            allowed.append(place)
    return allowed, tuple(refused)


def mark_memory(group: RunGroup, measured: Sequence[ScalingPoint], place: ScalingPoint) -> ScalingPoint:
    """Mark a place on a curve whose node moves clearly fewer bytes per core than any measured node: a boundary."""
    facts = group.runs[-1].facts
    if facts.memory_bandwidth is None or not facts.cores_per_rank:
        return place
    most = max(-(-point.ranks // point.nodes) for point in measured) * facts.cores_per_rank
    wanted = -(-place.ranks // place.nodes) * facts.cores_per_rank
    if facts.node_cores:
        most, wanted = min(most, facts.node_cores), min(wanted, facts.node_cores)
    if not saturates(facts.memory_bandwidth, most, wanted):
        return place
    return replace(place, boundaries=place.boundaries | {Boundary.MEMORY})


def point_beyond(measured: Sequence[ScalingPoint], ranks: int) -> ScalingPoint:
    """Place a point of a curve at ``ranks`` ranks: on nodes as full as the fullest measured, or a single node."""
    largest = measured[-1]
    if largest.nodes == 1:
        return ScalingPoint(ranks, 0.0, 1)
    per_node = max(-(-point.ranks // point.nodes) for point in measured)
    return ScalingPoint(ranks, 0.0, max(1, -(-ranks // per_node)))


def scaling_points(points: Sequence[CurvePoint]) -> tuple[ScalingPoint, ...]:
    """The measured points of a curve as a stack takes them, with their noise from run to run."""
    return tuple(ScalingPoint(point.ranks, point.throughput.value, point.nodes, _noise(point)) for point in points)


def _noise(point: CurvePoint) -> float:
    """Relative standard deviation of the runs of a point; 0 with a single run."""
    logs = np.log([run.measured.samples_per_second for run in point.runs])
    return float(np.std(logs, ddof=1)) if len(logs) > 1 else 0.0
