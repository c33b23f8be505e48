"""The schema of a cluster file: everything that depends on the site, nothing that depends on the model.

Texts for ``#SBATCH`` lines are restricted to safe characters, because Slurm reads these lines with its own parser, not
with the shell. All other texts are quoted for the shell where they are used.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from saman.configs.errors import UserError, choices
from saman.configs.names import Name
from saman.configs.problems import Problems, Strict
from saman.configs.site.burst_buffer import BurstBuffer
from saman.configs.site.sbatch_options import check_line
from saman.configs.site.setup import Software, SoftwareStep
from saman.configs.site.staging import STAGE, DataStaging, Staging
from saman.configs.site.texts import AbsolutePath, Bind, Features, Interface, PathText, SshHost, Word
from saman.configs.units import Clock, Size, parse_duration, parse_size
from saman.configs.variables_in_text import check_variables

ExtraLine = Annotated[str, AfterValidator(check_line)]


class Partition(Strict):
    """A partition and its limits; saman does not check a limit that is left out."""

    name: Word
    cores_per_node: PositiveInt
    memory_per_node: Size | None = None
    gpus_per_node: NonNegativeInt = 0
    gpu_type: Word | None = None
    max_nodes: PositiveInt | None = None
    max_time: Clock | None = None
    cost_per_node_hour: NonNegativeFloat = 1.0
    whole_nodes: bool = False
    qos: Word | None = None
    constraint: Features | None = None

    @property
    def memory_bytes(self) -> int | None:
        """Memory of a node; ``None`` if the file does not set it."""
        return None if self.memory_per_node is None else parse_size(self.memory_per_node)

    @property
    def max_seconds(self) -> int | None:
        """The longest time limit in seconds; ``None`` if the file does not set it."""
        return None if self.max_time is None else parse_duration(self.max_time)


class Gpus(Strict):
    """The sbatch option with which this site requests GPUs."""

    request: Literal["gres", "gpus-per-node", "gpus-per-task"] = "gres"
    typed: bool = False  # name the partition's gpu_type in the request


class Container(Strict):
    """The image in which the ranks run. The job script and the supervisor run outside, where Slurm's commands are."""

    engine: Literal["apptainer", "singularity"] = "apptainer"
    image: PathText
    binds: list[Bind] = []
    gpu: Literal["auto", "nvidia", "rocm", "none"] = "auto"
    python: PathText = "python3"  # inside the image


class MpiSettings(Strict):
    """The start method at this site, unless the experiment names another."""

    start: Literal["srun", "mpirun", "gloo"] = "srun"  # gloo: srun starts the ranks, which connect without MPI and ssh
    pmi: Literal["pmix", "pmix_v3", "pmix_v4", "pmix_v5", "pmi2", "cray_shasta", "none"] = "pmix"


class Network(Strict):
    """The network between ranks, for Open MPI, Gloo, NCCL, pipelines and TensorFlow's gRPC.

    ``interface`` names an interface, or several of the same fabric, the first for what takes only one.
    ``nearest_adapter`` gives every rank the InfiniBand adapter nearest to its GPU or cores (``UCX_NET_DEVICES``).
    ``shared_nodes``: what becomes of ``multi_worker`` on nodes that other users' jobs may share. Its gRPC ports
    have no authentication.
    """

    interface: Interface | list[Interface] | None = None
    nearest_adapter: bool = False
    shared_nodes: Literal["refuse", "warn"] = "refuse"

    @property
    def interfaces(self) -> tuple[str, ...]:
        """The interfaces, in the order of the file; empty leaves the choice to the libraries."""
        if self.interface is None:
            return ()
        return (self.interface,) if isinstance(self.interface, str) else tuple(self.interface)


class Requeue(Strict):
    """How an interrupted job continues."""

    by: Literal["scontrol", "follow-up", "none"] = "scontrol"  # follow-up: compute nodes have no Slurm commands
    seconds_before_end: Annotated[int, Field(ge=1, le=65535)] = 120  # the time for a checkpoint before the limit
    attempts: PositiveInt = 5  # in a row without progress


class Access(Strict):
    """How a user's own machine reaches the site: OpenSSH, with the user's own configuration and keys."""

    ssh: SshHost  # the login node, or its alias in ~/.ssh/config
    folder: PathText  # on the login node; saman keeps a folder for each project in it
    saman: PathText | None = None  # on the login node; null: of `software`, else the saman on its PATH


class StageOut(Strict):
    """The copy of results from node-local storage to the run folder, at the end of every attempt."""

    seconds: PositiveInt = 60  # the most that it takes; after scancel, Slurm's KillWait counts as well


class Cluster(Strict):
    """A site: ``configs/clusters/*.yaml``."""

    name: Name
    partitions: list[Partition] = Field(min_length=1)
    routing: Literal["named", "none"] = Field("named", alias="partition")  # none: the QOS or the features route a job
    account: Word | None = None
    qos: Word | None = None
    reservation: Word | None = None
    constraint: Features | None = None
    gpus: Gpus = Gpus()
    request_memory: bool = True
    exclusive: Literal["user"] | None = None  # user: a node is shared only by jobs of the same user
    export: Literal["all", "none", "nil"] = "all"  # of the submitting shell's variables; nil: nor those of a login
    software: Software = Software()
    setup: list[SoftwareStep] = []  # after ``software``
    container: Container | None = None
    mpi: MpiSettings = MpiSettings()
    network: Network = Network()
    requeue: Requeue = Requeue()
    node_local: AbsolutePath | None = None  # a folder on each node's own disk, such as $TMPDIR
    stage_out: StageOut | None = None
    locks: Literal["auto", "lease"] = "auto"  # lease: file locks do not reach the other nodes, as with localflock
    sbatch: list[ExtraLine] = []
    burst_buffer: BurstBuffer | None = None
    environment: dict[str, str] = {}  # variables; and ``stage: node`` copies the ranks' Python to each node
    data: DataStaging = DataStaging()
    staging: Staging = Staging()
    access: Access | None = None  # from a machine other than the login node

    @model_validator(mode="after")
    def _sound(self) -> Cluster:
        names = [partition.name for partition in self.partitions]
        found = [
            UserError(f"duplicate partition {name!r}", where="partitions")
            for name in sorted({name for name in names if names.count(name) > 1})
        ]
        for index, partition in enumerate(self.partitions):
            if self.gpus.typed and partition.gpus_per_node and partition.gpu_type is None:
                where = f"partitions[{index}].gpu_type"
                found.append(
                    UserError("missing key; gpus.typed requires the type of this partition's GPUs", where=where)
                )
        found += self._routing_problems()
        if self.stage_out is not None and self.node_local is None:
            found.append(UserError("missing key; stage_out copies from there", where="node_local", remedy="$TMPDIR"))
        if self.environment.get(STAGE, "none") not in ("none", "node"):
            problem = f"{self.environment[STAGE]!r} is neither node nor none"
            found.append(UserError(problem, where=f"environment.{STAGE}"))
        elif self.stages_environment and self.container is not None:
            found.append(UserError("the image already has the environment of the ranks", where=f"environment.{STAGE}"))
        for name, text in self.variables.items():
            if not (name.isascii() and name.isidentifier()) or "\0" in text:
                where = "environment"
                problem = f"{name!r} is not the name of an environment variable, or its value has a NUL"
                found.append(UserError(problem, where=where))
            try:
                check_variables(text)
            except ValueError as error:
                found.append(UserError(str(error), where=f"environment.{name}"))
        if found:
            raise Problems(found)
        return self

    @property
    def variables(self) -> dict[str, str]:
        """The variables to set in a job: ``environment`` without the key that is none."""
        return {name: text for name, text in self.environment.items() if name != STAGE}

    @property
    def stages_environment(self) -> bool:
        """Whether a job copies the ranks' Python environment to its nodes."""
        return self.environment.get(STAGE) == "node"

    def _routing_problems(self) -> list[UserError]:
        """What keeps Slurm from telling the entries of ``partitions`` apart, if jobs name no partition."""
        seen: dict[tuple[str | None, str | None], str] = {}
        found = []
        for index, partition in enumerate(self.partitions if self.routing == "none" else ()):
            route = (partition.qos or self.qos, partition.constraint)
            if route in seen:
                problem = f"partition: none routes jobs as for {seen[route]!r}; set another qos or constraint"
                found.append(UserError(problem, where=f"partitions[{index}]"))
            seen.setdefault(route, partition.name)
        return found

    def requested(self, partition: Partition) -> str | None:
        """The name to request from Slurm; ``None`` where the site routes jobs by themselves."""
        return None if self.routing == "none" else partition.name

    def partition(self, name: str) -> Partition:
        """The partition named ``name``; raises ``UserError`` with the nearest spelling."""
        for partition in self.partitions:
            if partition.name == name:
                return partition
        known = [partition.name for partition in self.partitions]
        raise UserError(f"the cluster {self.name} has no partition {name!r}", remedy=choices(name, known))
