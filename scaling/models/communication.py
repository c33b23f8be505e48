"""The cost of an allreduce: α–β models of ring and hierarchical allreduce with a node boundary and overlap."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from saman.pipeline.chain import Link
from saman.scaling.models.laws import Law, Parameter, RankCounts, Relative

Array = NDArray[np.float64]


def ring_seconds(message_bytes: Array | float, ranks: int, link: Link) -> Array | float:
    """Compute the time of an allreduce in a ring of p ranks: 2(p−1)·α + 2(p−1)/p·bytes·β.

    Source: Patarasuk & Yuan, J. Parallel Distrib. Comput. 69 (2009), §4; Thakur et al. (2005), §4.4.

    Args:
        message_bytes: Bytes of the reduced arrays; of an array, each element is a message.
        ranks: Number of ranks, p.
        link: The slowest link of the ring: latency α and bandwidth 1/β.

    Returns:
        Seconds, in the shape of ``message_bytes``.

    Example:
        >>> ring_seconds(4e6, ranks=4, link=Link(latency_seconds=1e-6, bytes_per_second=1e9))
        0.006006
    """
    steps = 2 * (ranks - 1)
    return steps * link.latency_seconds + steps / ranks * message_bytes / link.bytes_per_second


def flat_ring_seconds(
    message_bytes: Array | float, nodes: int, per_node: int, within: Link, across: Link
) -> Array | float:
    """Compute the time of an allreduce in a single ring through all ranks, node after node.

    The slower link sets the bandwidth. Of the 2(p−1) hops of a chunk 2(m−1) cross nodes (NCCL, src/graph/tuning.cc).

    Args:
        message_bytes: Bytes of the reduced arrays.
        nodes: Number of nodes, m.
        per_node: Ranks on each node, p ÷ m.
        within: Link between ranks of a node.
        across: Link between nodes.

    Returns:
        Seconds, in the shape of ``message_bytes``.
    """
    ranks = nodes * per_node
    if nodes == 1:
        return ring_seconds(message_bytes, ranks, within)
    steps, crossing = 2 * (ranks - 1), 2 * (nodes - 1)
    latency = (steps - crossing) * within.latency_seconds + crossing * across.latency_seconds
    slower = across if per_node == 1 else min(within, across, key=lambda link: link.bytes_per_second)
    return latency + steps / ranks * message_bytes / slower.bytes_per_second


def hierarchical_seconds(
    message_bytes: Array | float, nodes: int, per_node: int, within: Link, across: Link
) -> Array | float:
    """Compute the time of a hierarchical allreduce: reduce-scatter within nodes, allreduce across, allgather within.

    The shards of a node share its network link, which therefore carries the whole message. Source: Horovod's
    hierarchical allreduce; Jia et al., arXiv:1807.11205, §3.3.

    Args:
        message_bytes: Bytes of the reduced arrays.
        nodes: Number of nodes.
        per_node: Ranks on each node.
        within: Link between ranks of a node.
        across: Link between nodes.

    Returns:
        Seconds, in the shape of ``message_bytes``.
    """
    inside = ring_seconds(message_bytes, per_node, within) if per_node > 1 else 0.0 * np.asarray(message_bytes)
    if nodes == 1:
        return inside
    return inside + ring_seconds(message_bytes, nodes, across)


def exposed_seconds(exchange: Array | float, hidden: float) -> Array:
    """The part of an exchange that does not overlap with the backward pass."""
    return np.maximum(0.0, np.asarray(exchange) - hidden)


# In the laws the unit of time is the step of a single rank: bytes·β ÷ step and α ÷ step.
_WITHIN = Parameter("bandwidth_within", 0, 20, 0.02, "steps")
_ACROSS = Parameter("bandwidth_across", 0, 20, 0.05, "steps")
_LATENCY_WITHIN = Parameter("latency_within", 0, 1, 1e-3, "steps per hop")
_LATENCY_ACROSS = Parameter("latency_across", 0, 1, 1e-3, "steps per hop")
_HIDDEN = Parameter("hidden", 0, 1, 0.0, "steps")


def _identifiable(at: RankCounts) -> tuple[Parameter, ...]:
    """The parameters that these points can identify, most important first.

    A bandwidth needs a point beyond a single rank on its side of the node boundary, a latency two different counts.
    """
    inside = {n for n, m in zip(at.ranks, at.nodes, strict=True) if m == 1 and n > 1}
    between = {m for m in at.nodes if m > 1}
    inside_any = bool(inside) or bool(np.any(at.per_node > 1))
    wanted = [
        (_ACROSS, len(between) > 0),
        (_WITHIN, inside_any),
        (_LATENCY_ACROSS, len(between) > 1),
        (_LATENCY_WITHIN, len(inside) > 1),
        (_HIDDEN, len(between) > 2),
    ]
    free = max(1, len(at.ranks) - 1)  # the scale takes a point
    return tuple(parameter for parameter, there in wanted if there)[:free]


def exchange_in_steps(at: RankCounts, named: Mapping[str, float], hierarchical: bool) -> Array:
    """Exposed exchange per step, in steps of a single rank.

    Args:
        at: Ranks and nodes.
        named: Parameter values by name; missing parameters are 0.
        hierarchical: Whether the allreduce is hierarchical, else a ring.
    """
    k, m, n = at.per_node, at.nodes, at.ranks
    bw, ba = named.get("bandwidth_within", 0.0), named.get("bandwidth_across", 0.0)
    lw, la = named.get("latency_within", 0.0), named.get("latency_across", 0.0)
    if hierarchical:
        total = 2 * (k - 1) / k * bw + 2 * (k - 1) * lw + 2 * (m - 1) / m * ba + 2 * (m - 1) * la
    else:
        ring = 2 * (n - 1) / n * np.where(m > 1, max(ba, bw), bw)
        total = ring + 2 * (n - m) * lw + 2 * (m - 1) * la
    return exposed_seconds(total, named.get("hidden", 0.0))


def _relative(hierarchical: bool) -> Relative:
    def relative(at: RankCounts, named: Mapping[str, float]) -> Array:
        exposed = exchange_in_steps(at, named, hierarchical)
        if at.scaling == "weak":
            return np.asarray(at.ranks / (1 + exposed))
        return np.asarray(1 / (1 / at.ranks + exposed))

    return relative


RING = Law("ring", "ring allreduce", "Patarasuk & Yuan (2009), node boundary added", _identifiable, _relative(False))
HIERARCHICAL = Law(
    "hierarchical", "hierarchical allreduce", "Jia et al., arXiv:1807.11205, §3.3", _identifiable, _relative(True)
)
