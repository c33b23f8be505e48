"""The Slurm allocation of this process: its nodes, and what each offers."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from saman.configs.errors import EnvironmentLack
from saman.launcher.node.machine import Node, allowed_cores
from saman.launcher.plan.hostlist import expand


@dataclass(frozen=True)
class Allocation:
    """The resources of this Slurm job. ``job`` is the id for people, ``ARRAY_INDEX`` for a task of an array."""

    job: str
    raw_job: str
    nodes: tuple[str, ...]
    cores: tuple[int, ...]
    gpus: int
    restarts: int

    def without(self, lost: Collection[str]) -> Allocation:
        """The same allocation with the nodes that are left."""
        left = [(node, cores) for node, cores in zip(self.nodes, self.cores, strict=True) if node not in lost]
        return replace(self, nodes=tuple(node for node, _ in left), cores=tuple(cores for _, cores in left))

    def offers(self, allowed_here: int | None = None) -> tuple[Node, ...]:
        """The usable resources of each node. Ranks are pinned only if exactly the allocated cores are usable."""
        allowed = len(allowed_cores()) if allowed_here is None else allowed_here
        pinnable = allowed == self.cores[0]
        notes: tuple[str, ...] = ()
        if not pinnable:
            notes = (f"Slurm allocated {self.cores[0]} cores, but {allowed} are usable: ranks are not pinned",)
        return tuple(
            Node(name, cores, self.gpus, None, pinnable, notes if index == 0 else ())
            for index, (name, cores) in enumerate(zip(self.nodes, self.cores, strict=True))
        )


def allocation(environ: Mapping[str, str], gpus_per_node: int) -> Allocation:
    """Read the allocation from Slurm's variables; raises ``EnvironmentLack`` outside a job."""
    named = _of_part(environ, "SLURM_JOB_NODELIST", 0) or environ.get("SLURM_JOB_NODELIST")
    nodes = expand(named or environ.get("SLURM_NODELIST", ""))
    number = environ.get("SLURM_JOB_ID", "")
    if not nodes or not number:
        raise EnvironmentLack("not inside a Slurm job", remedy="use saman submit, or sbatch with the job script")
    cores = _of_part(environ, "SLURM_JOB_CPUS_PER_NODE", 0) or environ.get("SLURM_JOB_CPUS_PER_NODE", "")
    array, index = environ.get("SLURM_ARRAY_JOB_ID"), environ.get("SLURM_ARRAY_TASK_ID")
    return Allocation(
        job=f"{array}_{index}" if array and index else number,
        raw_job=number,
        nodes=tuple(nodes),
        cores=cpus_per_node(cores, len(nodes)),
        gpus=gpus_per_node,
        restarts=int(environ.get("SLURM_RESTART_COUNT") or 0),
    )


def component_nodes(environ: Mapping[str, str]) -> tuple[tuple[str, ...], ...]:
    """The nodes of every part of a heterogeneous job but the first, which has the ranks; empty for other jobs."""
    parts = environ.get("SLURM_HET_SIZE", "")
    count = int(parts) if parts.isdigit() else 1
    return tuple(tuple(expand(_of_part(environ, "SLURM_JOB_NODELIST", part) or "")) for part in range(1, count))


def _of_part(environ: Mapping[str, str], name: str, part: int) -> str | None:
    """A variable of a part of a heterogeneous job; ``None`` in other jobs."""
    return environ.get(f"{name}_HET_GROUP_{part}")


def cpus_per_node(text: str, nodes: int) -> tuple[int, ...]:
    """The cores of each node in Slurm's ``4(x2),8``; 1 if Slurm does not set the variable."""
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part.strip())
        if match is not None:
            found += [int(match[1])] * int(match[2] or 1)
    return tuple((found + [found[-1] if found else 1] * nodes)[:nodes])
