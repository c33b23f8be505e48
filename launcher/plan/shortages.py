"""Compares the requested resources with what the nodes offer. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from saman.configs.errors import EnvironmentLack
from saman.configs.units import parse_size

if TYPE_CHECKING:
    from saman.configs.schemas.experiment import Resources
    from saman.launcher.node.machine import Node


def find_shortages(resources: Resources, nodes: Sequence[Node]) -> list[EnvironmentLack]:
    """List every requested resource that the nodes lack, with numbers."""
    found: list[EnvironmentLack] = []
    if len(nodes) < resources.nodes:
        available = f"{len(nodes)} {'is' if len(nodes) == 1 else 'are'} available"
        remedy = f"resources.nodes={max(1, len(nodes))}, or saman submit on a cluster"
        problem = f"{resources.nodes} nodes requested, {available}"
        found.append(EnvironmentLack(problem, where="resources.nodes", remedy=remedy))
    for node in nodes[: resources.nodes]:
        found += [*_gpu_shortage(resources, node), *_memory_shortage(resources, node)]
    return found


def _gpu_shortage(resources: Resources, node: Node) -> Iterator[EnvironmentLack]:
    ranks, gpus = resources.ranks_per_node, resources.gpus_per_rank * resources.ranks_per_node
    if gpus > node.gpus:
        most = node.gpus // resources.gpus_per_rank
        yield EnvironmentLack(
            f"{ranks} ranks × {resources.gpus_per_rank} = {gpus} GPUs requested on {node.name}, which has {node.gpus}",
            where="resources.gpus_per_rank",
            remedy=f"-np {most * resources.nodes}" if most else "resources.gpus_per_rank=0 trains on cores",
        )


def _memory_shortage(resources: Resources, node: Node) -> Iterator[EnvironmentLack]:
    asked = resources.memory_per_rank
    if node.memory_bytes is None or asked == "auto":
        return
    if parse_size(asked) * resources.ranks_per_node > node.memory_bytes:
        has = f"{node.memory_bytes / 2**30:.1f}G"
        yield EnvironmentLack(
            f"{resources.ranks_per_node} ranks × {asked} of memory requested on {node.name}, which has {has}",
            where="resources.memory_per_rank",
            remedy="auto, or fewer ranks per node",
        )


def combine(shortages: Sequence[EnvironmentLack]) -> EnvironmentLack:
    """Combine the shortages of a plan into a single error."""
    first = shortages[0]
    return EnvironmentLack(first.problem, where=first.where, remedy=first.remedy, others=shortages[1:])
