"""A node's NUMA domains, with their cores, GPUs and network adapters. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

# How near two devices are, in the words of `nvidia-smi topo -m`, the nearest first.
LINKS = ("PIX", "PXB", "PHB", "NODE", "SYS")


@dataclass(frozen=True)
class Topology:
    """What a node's tools report.

    Attributes:
        cores: NUMA domain -> its logical cores.
        gpus: name of a GPU (its index, as in CUDA_VISIBLE_DEVICES) -> its NUMA domain; GPUs without one are left out.
        adapters: name of an RDMA adapter, such as mlx5_0 -> its NUMA domain.
        links: (GPU, adapter) -> one of ``LINKS``, where a tool reports it.
    """

    cores: Mapping[int, tuple[int, ...]]
    gpus: Mapping[str, int] = field(default_factory=dict)
    adapters: Mapping[str, int] = field(default_factory=dict)
    links: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def domain_of(self, core: int) -> int | None:
        """The NUMA domain of a core; ``None`` if no tool reports it."""
        return next((domain for domain, cores in self.cores.items() if core in cores), None)


def parse_list(text: str) -> tuple[int, ...]:
    """The numbers of a list as the kernel and nvidia-smi write it; empty for other text.

    >>> parse_list("0-2,8")
    (0, 1, 2, 8)
    """
    found: list[int] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", part)
        if match is None:
            return ()
        found += range(int(match[1]), int(match[2] or match[1]) + 1)
    return tuple(found)


def merged(parts: Iterable[Topology]) -> Topology:
    """One topology of several tools' reports; where they differ, the first that reports something counts."""
    cores: dict[int, tuple[int, ...]] = {}
    gpus: dict[str, int] = {}
    adapters: dict[str, int] = {}
    links: dict[tuple[str, str], str] = {}
    for part in parts:
        cores = cores or dict(part.cores)
        gpus = {**part.gpus, **gpus}
        adapters = {**part.adapters, **adapters}
        links = {**part.links, **links}
    return Topology(cores, gpus, adapters, links)
