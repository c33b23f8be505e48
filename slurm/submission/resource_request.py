"""The resource request of a run on a partition, and the choice of the cheapest partition that can meet it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from saman.configs.errors import UserError
from saman.configs.schemas.cluster import Cluster, Partition
from saman.configs.schemas.components import JobComponent
from saman.configs.schemas.experiment import Experiment, Resources
from saman.configs.schemas.script import Script
from saman.configs.schemas.training import OVER_GRPC
from saman.configs.units import format_clock, parse_duration, parse_size

MIB = 1 << 20


@dataclass(frozen=True)
class ResourceRequest:
    """The resources of a job. ``memory_bytes`` is per node: ``None`` leaves it to Slurm, 0 asks for all of it."""

    nodes: int
    tasks_per_node: int
    cpus_per_task: int
    gpus_per_node: int
    memory_bytes: int | None
    seconds: int
    whole_nodes: bool
    survives_nodes: bool = False  # whether the job goes on without a node that fails

    @property
    def tasks(self) -> int:
        """Processes in all."""
        return self.nodes * self.tasks_per_node

    @property
    def cpus_per_node(self) -> int:
        """Cores that the tasks of one node need."""
        return self.tasks_per_node * self.cpus_per_task

    @property
    def node_hours(self) -> float:
        """Nodes × hours, if the job runs to its time limit."""
        return self.nodes * self.seconds / 3600

    @property
    def gpu_hours(self) -> float:
        """GPUs × hours, if the job runs to its time limit."""
        return self.node_hours * self.gpus_per_node


@dataclass(frozen=True)
class PartitionChoice:
    """The chosen partition, the request on it, its cost, and the reasons for the choice."""

    partition: Partition
    request: ResourceRequest
    cost: float
    reasons: tuple[str, ...]


def request_on(partition: Partition, spec: Experiment | Script, cluster: Cluster) -> ResourceRequest:
    """The resources to request for a run on a partition.

    Args:
        partition: the partition.
        spec: the experiment or script; ``auto`` becomes the share of a node that its ranks take.
        cluster: the cluster file; it decides whether to request memory.
    """
    wanted = spec.resources
    processes = max(1, wanted.ranks_per_node // spec.devices_per_process)
    cpus_per_rank = _cpus_per_rank(partition, wanted)
    cpus_per_task = cpus_per_rank * wanted.ranks_per_node // processes
    return ResourceRequest(
        nodes=wanted.nodes + wanted.spare_nodes,
        tasks_per_node=processes,
        cpus_per_task=cpus_per_task,
        gpus_per_node=wanted.gpus_per_rank * wanted.ranks_per_node,
        memory_bytes=_memory(partition, spec, cpus_per_task * processes) if cluster.request_memory else None,
        seconds=parse_duration(wanted.time_limit),
        whole_nodes=partition.whole_nodes,
        survives_nodes=_survives(spec) and wanted.nodes + wanted.spare_nodes > 1,
    )


def _survives(spec: Experiment | Script) -> bool:
    """Whether the job goes on without a node that fails."""
    return spec.launch.restart is not None or spec.launch.elastic is not None


def _cpus_per_rank(partition: Partition, wanted: Resources) -> int:
    if wanted.cpus_per_rank != "auto":
        return wanted.cpus_per_rank
    if wanted.gpus_per_rank and partition.gpus_per_node:
        return max(1, partition.cores_per_node * wanted.gpus_per_rank // partition.gpus_per_node)
    return max(1, partition.cores_per_node // wanted.ranks_per_node)


def _memory(partition: Partition, spec: Experiment | Script, cpus: int) -> int | None:
    wanted = spec.resources
    if wanted.memory_per_rank != "auto":
        return parse_size(wanted.memory_per_rank) * (wanted.ranks_per_node + _spares_beside_ranks(spec))
    if partition.whole_nodes:
        return 0
    if partition.memory_bytes is None:
        return None
    share = min(cpus, partition.cores_per_node) / partition.cores_per_node
    return int(partition.memory_bytes * share) // MIB * MIB


def _spares_beside_ranks(spec: Experiment | Script) -> int:
    """Warm spares on the node of the ranks: those of a run on one node."""
    elastic, wanted = spec.launch.elastic, spec.resources
    return elastic.warm_spares if elastic is not None and wanted.nodes + wanted.spare_nodes == 1 else 0


def find_obstacles(partition: Partition, request: ResourceRequest) -> Iterator[str]:
    """Each limit of the partition that the request exceeds, with both numbers."""
    if partition.max_nodes is not None and request.nodes > partition.max_nodes:
        yield f"{request.nodes} nodes requested, at most {partition.max_nodes} allowed"
    if request.cpus_per_node > partition.cores_per_node:
        yield f"{request.cpus_per_node} cores per node requested, a node has {partition.cores_per_node}"
    if request.gpus_per_node > partition.gpus_per_node:
        yield f"{request.gpus_per_node} GPUs per node requested, a node has {partition.gpus_per_node}"
    memory = partition.memory_bytes
    if memory is not None and (request.memory_bytes or 0) > memory:
        asked = (request.memory_bytes or 0) / (1 << 30)
        yield f"{asked:.1f} GiB per node requested, a node has {memory / (1 << 30):.1f} GiB"
    if partition.max_seconds is not None and request.seconds > partition.max_seconds:
        yield f"{format_clock(request.seconds)} requested, at most {partition.max_time} allowed"


EXPOSED = (
    "other users' jobs may share its nodes, and TensorFlow's ports would run their graphs as you (request all cores "
    "of the nodes, take strategy horovod, or set network.shared_nodes: warn in the cluster file)"
)


def exposes_ports(cluster: Cluster, partition: Partition, request: ResourceRequest, spec: Experiment | Script) -> bool:
    """Whether the requested resources leave TensorFlow's gRPC ports on nodes that Slurm may give to others as well."""
    listens = spec.launch.tf_config is not None if isinstance(spec, Script) else spec.train.strategy in OVER_GRPC
    if not listens or cluster.exclusive == "user":
        return False
    return not request.whole_nodes and request.cpus_per_node < partition.cores_per_node


def cost_of(partition: Partition, request: ResourceRequest) -> float:
    """Cost in the cluster file's unit; a shared node costs the largest share that the request takes of it."""
    shares = [request.cpus_per_node / partition.cores_per_node]
    if partition.gpus_per_node:
        shares.append(request.gpus_per_node / partition.gpus_per_node)
    if partition.memory_bytes and request.memory_bytes:
        shares.append(request.memory_bytes / partition.memory_bytes)
    share = 1.0 if request.whole_nodes else max(shares)
    return request.node_hours * share * partition.cost_per_node_hour


def choose_partition(
    cluster: Cluster, spec: Experiment | Script, named: str | None = None, whole_nodes: bool = False
) -> PartitionChoice:
    """Choose the named partition, or the cheapest that meets the request (the first listed among equals).

    Args:
        cluster: the cluster file.
        spec: the experiment or script.
        named: the partition to use; ``None`` for the cheapest.
        whole_nodes: whether to request whole nodes on a partition that shares them.

    Raises:
        UserError: No partition meets the request; the error lists the obstacles on each.
    """
    candidates: Sequence[Partition] = [cluster.partition(named)] if named else cluster.partitions
    fitting: list[tuple[float, Partition, ResourceRequest]] = []
    refusals: dict[str, str] = {}
    for partition in candidates:
        request = request_on(partition, spec, cluster)
        request = replace(request, whole_nodes=request.whole_nodes or whole_nodes)
        obstacles = [*find_obstacles(partition, request)]
        if cluster.network.shared_nodes == "refuse" and exposes_ports(cluster, partition, request, spec):
            obstacles.append(EXPOSED)
        problems = "; ".join(obstacles)
        if problems:
            refusals[partition.name] = problems
        else:
            fitting.append((cost_of(partition, request), partition, request))
    if not fitting:
        raise _nothing_fits(cluster, spec, refusals)
    cost, partition, request = min(fitting, key=lambda item: item[0])
    return PartitionChoice(partition, request, cost, tuple(_reasons(partition, fitting, refusals, bool(named))))


def choose_for_components(cluster: Cluster, spec: Experiment | Script) -> tuple[PartitionChoice, ...]:
    """Choose a partition for each component of the run, the cheapest that fits.

    Raises:
        UserError: No partition fits a component, or the ranks run in a container, in which components cannot start.
    """
    components = spec.resources.components
    if components and cluster.container is not None:
        raise UserError("components do not run in a container", where="resources.components")
    return tuple(choose_partition(cluster, _as_script(component, spec)) for component in components)


def _as_script(component: JobComponent, spec: Experiment | Script) -> Script:
    """A component as a program of its own, for the choice of its partition."""
    resources = Resources(
        nodes=component.nodes,
        ranks_per_node=component.tasks_per_node,
        cpus_per_rank=component.cpus_per_task,
        memory_per_rank=component.memory_per_task,
        time_limit=spec.resources.time_limit,
    )
    name = component.name.replace("_", "-")
    return Script(name=name, command=component.program, directory="/", resources=resources)


def _nothing_fits(cluster: Cluster, spec: Experiment | Script, refusals: dict[str, str]) -> UserError:
    each = [UserError(why, where=f"partition {name}") for name, why in refusals.items()]
    problem = f"no partition of {cluster.name} fits {spec.name}"
    if len(each) == 1:
        problem = f"partition {next(iter(refusals))} of {cluster.name} does not fit {spec.name}"
    return UserError(problem, remedy="ask for less (resources.…=…) or split the run", others=each)


def _reasons(
    taken: Partition, fitting: Sequence[tuple[float, Partition, ResourceRequest]], refusals: dict[str, str], named: bool
) -> Iterator[str]:
    costs = {partition.name: cost for cost, partition, _ in fitting}
    request = next(request for _, partition, request in fitting if partition is taken)
    what = f"{request.nodes} {_plural('node', request.nodes)} × {request.seconds / 3600:.4g} h"
    why = "as named" if named else "the cheapest that fits" if len(costs) > 1 else "the only partition that fits"
    yield f"partition {taken.name}, {why}: {what}, at most {costs[taken.name]:.4g} in the unit of the cluster file"
    for name, cost in costs.items():
        if name != taken.name:
            yield f"partition {name} would cost {cost:.4g}"
    for name, why in refusals.items():
        yield f"partition {name} does not fit: {why}"


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"
