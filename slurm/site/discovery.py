"""Writes a first cluster file from what Slurm reports on a login node: ``saman clusters init``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from saman.configs import yaml12
from saman.configs.errors import EnvironmentLack
from saman.configs.units import format_clock
from saman.slurm.site import client
from saman.slurm.site.user_limits import UserLimits, read_user_limits


@dataclass(frozen=True)
class SitePartition:
    """A partition as Slurm describes it, under the keys of a cluster file; ``None`` leaves a key out.

    If its nodes differ, each value is the smallest of them. Of several GPU types, that of the most nodes counts, and
    only the nodes that have it.
    """

    name: str
    cores_per_node: int
    memory_per_node: str | None
    gpus_per_node: int | None
    gpu_type: str | None
    max_nodes: int
    max_time: str | None
    whole_nodes: bool | None
    cost_per_node_hour: float = 1.0

    def to_yaml(self) -> dict[str, object]:
        """The entry of the partition in a cluster file."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Site:
    """A site as Slurm describes it. ``unknown`` lists what Slurm does not report."""

    name: str
    partitions: tuple[SitePartition, ...]
    account: str | None
    qos: str | None
    pmi: str
    unknown: tuple[str, ...]


def ask_site() -> Site:
    """Ask sinfo, scontrol, sacctmgr and srun; raises ``EnvironmentLack`` if Slurm does not answer."""
    nodes = client.ask(["sinfo", "-h", "-e", "-o", "%R|%c|%m|%D|%G"])
    if nodes.code != 0:
        problem = f"sinfo failed: {client.last_error_line(nodes)}"
        raise EnvironmentLack(problem, remedy="use a login node of the cluster")
    shown = [client.fields_of(line) for line in client.ask(["scontrol", "-o", "show", "partition"]).lines]
    config = client.ask(["scontrol", "show", "config"]).out
    found = re.search(r"^ClusterName\s*=\s*(\S+)", config, re.MULTILINE)
    standing = read_user_limits(None, None)
    return describe(found[1] if found else "cluster", nodes.lines, shown, standing, client.ask(["srun", "--mpi=list"]))


def describe(
    name: str,
    nodes: Iterable[str],
    shown: Sequence[Mapping[str, str]],
    standing: UserLimits,
    mpi: client.Answer,
) -> Site:
    """Describe a site from the commands' answers. Pure.

    Args:
        name: the cluster's name.
        nodes: lines of ``sinfo -o "%R|%c|%m|%D|%G"``.
        shown: fields of ``scontrol show partition``, per partition.
        standing: the user's account, QOS and limits.
        mpi: the answer of ``srun --mpi=list``.
    """
    kinds: dict[str, list[list[str]]] = {}
    for line in nodes:
        partition, *rest = line.split("|")
        if len(rest) == 4:
            kinds.setdefault(partition, []).append(rest)
    limits = {fields.get("PartitionName", ""): fields for fields in shown}
    partitions = tuple(_partition(partition, kinds[partition], limits.get(partition, {})) for partition in kinds)
    known = re.findall(r"\b(pmix_v\d|pmix|pmi2|cray_shasta|none)\b", mpi.out + mpi.err)
    pmi = next((flavour for flavour in ("pmix", "pmi2", "cray_shasta") if flavour in known), "none")
    unknown = ["cost per node-hour (1.0 everywhere)", "the network interface, and whether compute nodes have scontrol"]
    if pmi != "pmix":
        unknown.append(f"how to start MPI: srun has no PMIx here (it has {', '.join(known) or 'nothing'})")
    unknown += [text for name in kinds if (text := _other_gpus(name, kinds[name]))]
    if not standing.known:
        unknown.append("limits (accounting is off, or closed to users)")
    return Site(name.lower(), partitions, standing.account, next(iter(standing.qos), None), pmi, tuple(unknown))


def _partition(name: str, kinds: Sequence[Sequence[str]], limits: Mapping[str, str]) -> SitePartition:
    gpu_type = next(iter(_nodes_by_gpu_type(kinds)), None) if all(_gpus(kind[3]) for kind in kinds) else None
    if gpu_type is not None:
        kinds = [kind for kind in kinds if gpu_type in _gpus(kind[3])]
    megabytes = min(_number(kind[1]) for kind in kinds)
    count = sum(_number(kind[2]) for kind in kinds)
    gpus_per_node = min(_gpus(kind[3]).get(gpu_type) or sum(_gpus(kind[3]).values()) for kind in kinds) or None
    most = limits.get("MaxNodes", "UNLIMITED")
    return SitePartition(
        name=name,
        cores_per_node=max(1, min(_number(kind[0]) for kind in kinds)),
        memory_per_node=f"{megabytes}M" if megabytes > 1 else None,
        gpus_per_node=gpus_per_node,
        gpu_type=gpu_type,
        max_nodes=min(int(most), count) if most.isdigit() else max(1, count),
        max_time=_clock(limits.get("MaxTime", "UNLIMITED")),
        whole_nodes=True if limits.get("OverSubscribe", "").startswith("EXCLUSIVE") else None,
    )


def _gpus(gres: str) -> dict[str | None, int]:
    """The number of GPUs of each type in ``gpu:a100:4(S:0-1),…``; the type is ``None`` where Slurm names none."""
    found: dict[str | None, int] = {}
    for match in re.finditer(r"(?:^|,)gpu(?::([A-Za-z0-9_.-]*[A-Za-z][A-Za-z0-9_.-]*))?:(\d+)", gres):
        if int(match[2]):
            found[match[1]] = found.get(match[1], 0) + int(match[2])
    return found


def _nodes_by_gpu_type(kinds: Sequence[Sequence[str]]) -> dict[str, int]:
    """The number of nodes with each named GPU type, the most first."""
    found: dict[str, int] = {}
    for _, _, nodes, gres in kinds:
        for kind in _gpus(gres):
            if kind is not None:
                found[kind] = found.get(kind, 0) + _number(nodes)
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _other_gpus(name: str, kinds: Sequence[Sequence[str]]) -> str | None:
    """What to know of a partition with several GPU types; ``None`` for others."""
    found = _nodes_by_gpu_type(kinds)
    if len(found) < 2:
        return None
    listed = ", ".join(f"{kind} on {nodes} node{'s' * (nodes != 1)}" for kind, nodes in found.items())
    return f"the GPU type in partition {name}: it has {listed}; this file requests {next(iter(found))}"


def _clock(text: str) -> str | None:
    match = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", text)
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return format_clock(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def _number(text: str) -> int:
    match = re.match(r"\d+", text)
    return int(match[0]) if match else 0


def cluster_yaml(site: Site) -> str:
    """The text of the cluster file, with comments on what to check."""
    typed = any(partition.gpu_type for partition in site.partitions)
    gpu = any(partition.gpus_per_node for partition in site.partitions)
    lines = [
        "# Written by `saman clusters init` from what Slurm reports here. Slurm does not report these, so check them:",
        *(f"# - {what}" for what in site.unknown),
        "# `saman clusters show NAME` of a shipped example explains every key.",
        yaml12.dump({"name": site.name, "account": site.account, "qos": None}).rstrip()
        + (f"  # Slurm uses {site.qos}" if site.qos else ""),
        yaml12.dump({"partitions": [partition.to_yaml() for partition in site.partitions]}).rstrip(),
    ]
    if gpu:
        typed_text = "true" if typed else "false"
        lines.append(f"gpus: {{request: gres, typed: {typed_text}}}  # gres | gpus-per-node | gpus-per-task")
    start = "srun" if site.pmi == "pmix" else "gloo"
    lines += [
        "request_memory: true  # false where the site refuses --mem",
        "software:",
        "  modules: {purge: false, use: [], load: []}",
        "  # virtualenv: /path/to/venv       # or conda: {root: …, environment: …}; without either, jobs use the",
        "  #                                 # Python that runs `saman submit`",
        "# setup: [{modules: {load: [gcc]}}, {source: {file: /site/env.sh, sets: [SITE_ROOT]}}]  # checked steps",
        "# container: {image: /path/to/train.sif, binds: []}",
        f"mpi: {{start: {start}, pmi: {site.pmi}}}  # srun | mpirun | gloo (without MPI and ssh)",
        "# network: {interface: ib0}          # or a list; `ip -br link` on a compute node",
        "# partition: none                    # where the QOS or the features route a job; export: none | nil",
        "requeue: {by: scontrol, seconds_before_end: 120, attempts: 5}  # follow-up: compute nodes have no scontrol",
    ]
    return "\n".join(lines) + "\n"
