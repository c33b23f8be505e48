"""Pairs each process of a node with cores and an adapter near its GPUs. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from saman.launcher.topology.model import LINKS, Topology


@dataclass(frozen=True)
class Pairing:
    """The cores of a process, and the nearest adapter if one is known."""

    cores: tuple[int, ...]
    adapter: str | None = None


def pair(
    topology: Topology, allowed: Sequence[int], wanted: Sequence[tuple[int, Sequence[str]]]
) -> tuple[Pairing, ...] | None:
    """Give each process cores of the NUMA domain of its GPUs, or of a single domain if it has none.

    Every process gets as many cores as it asks for, no core twice. A process whose domain has too few cores left takes
    the rest from the others: the processes that find room come first, so that they do not lose it.

    Args:
        topology: the node.
        allowed: the logical cores that this job may use there, in the order in which to take them.
        wanted: for each process in local order, its number of cores and its GPUs by name.

    Returns:
        A pairing per process; ``None`` if the cores do not suffice or nothing is known to be near anything, so that
        the placement stays as planned.
    """
    known = {core: topology.domain_of(core) for core in allowed}
    domains = {domain for domain in known.values() if domain is not None}
    if len(domains) < 2 or sum(count for count, _ in wanted) > len(allowed):
        return None
    free = {domain: [core for core in allowed if known[core] == domain] for domain in (*sorted(domains), None)}
    homes = [_home(topology, gpus) for _, gpus in wanted]
    taken: list[list[int]] = [[] for _ in wanted]
    for index, (count, _) in enumerate(wanted):  # those with a home first
        if homes[index] in domains:
            taken[index] = _take(free[homes[index]], count)
    for index, (count, _) in enumerate(wanted):
        if homes[index] not in domains:
            roomy = next((cores for cores in free.values() if len(cores) >= count), None)
            taken[index] = _take(roomy, count) if roomy is not None else []
    for index, (count, _) in enumerate(wanted):
        for cores in free.values():
            taken[index] += _take(cores, count - len(taken[index]))
    return tuple(
        Pairing(tuple(sorted(cores)), nearest_adapter(topology, gpus, cores))
        for cores, (_, gpus) in zip(taken, wanted, strict=True)
    )


def _home(topology: Topology, gpus: Sequence[str]) -> int | None:
    return next((topology.gpus[gpu] for gpu in gpus if gpu in topology.gpus), None)


def _take(cores: list[int], count: int) -> list[int]:
    taken, cores[:] = cores[:count], cores[count:]
    return taken


def nearest_adapter(topology: Topology, gpus: Sequence[str], cores: Sequence[int]) -> str | None:
    """The adapter with the shortest way to the first GPU, or in the domain of the cores; ``None`` if none is known.

    Adapters that are equally near are dealt out to the GPUs in turn.
    """
    names = sorted({*topology.adapters, *(adapter for _, adapter in topology.links)})
    if not names:
        return None
    gpu = gpus[0] if gpus else None
    domain = topology.domain_of(cores[0]) if cores else None

    def distance(name: str) -> int:
        link = topology.links.get((gpu, name)) if gpu is not None else None
        if link is not None:
            return LINKS.index(link)
        return LINKS.index("NODE" if topology.adapters.get(name) == domain is not None else "SYS")

    shortest = min(map(distance, names))
    near = [name for name in names if distance(name) == shortest]
    turn = int(gpu) if gpu is not None and gpu.isdigit() else 0
    return near[turn % len(near)]
