"""The schema of a cluster file: everything that depends on the site, nothing that depends on the model.

Texts for ``#SBATCH`` lines are restricted to safe characters, because Slurm reads these lines with its own parser, not
with the shell. All other texts are quoted for the shell where they are used.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from saman.configs.errors import UserError, choices
from saman.configs.names import Name
from saman.configs.problems import Problems, Strict
from saman.configs.units import Clock, Size, parse_duration, parse_size
from saman.configs.variables_in_text import check_variables

# Options that saman sets itself; an extra line of the cluster file must not contradict them.
OWN_OPTIONS = frozenset({
    "account", "array", "chdir", "constraint", "cpus-per-task", "dependency", "error", "exclude", "exclusive",
    "export", "gpus", "gpus-per-node", "gpus-per-task", "gres", "job-name", "kill-on-invalid-dep", "mem",
    "mem-per-cpu", "mem-per-gpu", "no-requeue", "nodelist", "nodes", "ntasks", "ntasks-per-node", "open-mode",
    "output", "partition", "qos", "requeue", "reservation", "signal", "test-only", "time", "wait", "wrap",
})  # fmt: skip

# Keys of a cluster file that set an sbatch option; the error message names the key.
_KEYS = {
    "no-requeue": "requeue: {by: none}",
    "requeue": "requeue: {by: scontrol}",
    "exclusive": "partitions[].whole_nodes",
    "gres": "gpus and resources.gpus_per_rank",
    "signal": "requeue.seconds_before_end",
}


def _matching(pattern: str, what: str, example: str) -> AfterValidator:
    compiled = re.compile(pattern)

    def check(text: str) -> str:
        if compiled.fullmatch(text) is None:
            raise ValueError(f"{text!r} is not {what}, such as {example}")
        return text

    return AfterValidator(check)


Word = Annotated[str, _matching(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,127}", "a name that Slurm knows", "gpu_long")]
Features = Annotated[
    str, _matching(r"[A-Za-z0-9_.,&|*:+()\[\]-]{1,256}", "a list of node features", "a100&nvme, written without blanks")
]
Interface = Annotated[
    str, _matching(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,14}", "a network interface", "ib0, as `ip link` shows it")
]


def _plain(text: str) -> str:
    if not text or any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise ValueError(f"{text!r} is empty or contains control characters")
    return text


def _argument(text: str) -> str:
    if check_variables(_plain(text)).startswith("-"):
        raise ValueError(f"{text!r} would be read as an option")
    return text


def _bind(text: str) -> str:
    if "," in _argument(text) or not 1 <= len(text.split(":")) <= 3:
        raise ValueError(f"{text!r} is not a bind; write source, source:destination or source:destination:ro")
    return text


def _extra_line(text: str) -> str:
    option = re.fullmatch(r'--([a-z][a-z0-9-]*)(=[^"\\]*)?', _plain(text))
    if option is None:
        raise ValueError(f"{text!r} is not an option of sbatch; write it as in --mail-type=END, without quotes")
    if re.search(r"\$[A-Za-z_{]", text):
        raise ValueError(f"{text!r} has a variable, but Slurm expands none in #SBATCH lines")
    if option[1] in OWN_OPTIONS:
        key = _KEYS.get(option[1], "the experiment or another key of this file")
        problem = f"saman sets --{option[1]} itself, from {key}"
        raise ValueError(f"{text!r}: {problem}")
    return text


SshHost = Annotated[
    str,
    _matching(
        r"([A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}@)?[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}",
        "a host for ssh",
        "ada@login.example.edu",
    ),
]
Argument = Annotated[str, AfterValidator(_argument)]
PathText = Annotated[str, AfterValidator(_argument)]
Bind = Annotated[str, AfterValidator(_bind)]
ExtraLine = Annotated[str, AfterValidator(_extra_line)]


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


class Modules(Strict):
    """Environment modules (Lmod, EasyBuild, Environment Modules)."""

    purge: bool = False
    use: list[Argument] = []
    load: list[Argument] = []


class Conda(Strict):
    """A conda environment: the root with ``etc/profile.d/conda.sh``, and the environment's name or path."""

    root: PathText
    environment: Argument


class Software(Strict):
    """How a job finds the Python that has saman. Of variables, only a named set is expanded."""

    modules: Modules = Modules()
    virtualenv: PathText | None = None
    conda: Conda | None = None
    python: PathText | None = None  # on the compute nodes, after the above; null: the Python that runs `saman submit`

    @model_validator(mode="after")
    def _one_environment(self) -> Software:
        if self.virtualenv is not None and self.conda is not None:
            raise Problems([UserError("both virtualenv and conda are set; keep one of them", where="conda")])
        return self


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

    ``shared_nodes``: what becomes of ``multi_worker`` on nodes that other users' jobs may share. Its gRPC ports ask
    nobody who they are.
    """

    interface: Interface | None = None
    shared_nodes: Literal["refuse", "warn"] = "refuse"


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


class Cluster(Strict):
    """A site: ``configs/clusters/*.yaml``."""

    name: Name
    partitions: list[Partition] = Field(min_length=1)
    account: Word | None = None
    qos: Word | None = None
    reservation: Word | None = None
    constraint: Features | None = None
    gpus: Gpus = Gpus()
    request_memory: bool = True
    software: Software = Software()
    container: Container | None = None
    mpi: MpiSettings = MpiSettings()
    network: Network = Network()
    requeue: Requeue = Requeue()
    locks: Literal["auto", "lease"] = "auto"  # lease: file locks do not reach the other nodes, as with localflock
    sbatch: list[ExtraLine] = []
    environment: dict[str, str] = {}
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
        for name, text in self.environment.items():
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

    def partition(self, name: str) -> Partition:
        """The partition named ``name``; raises ``UserError`` with the nearest spelling."""
        for partition in self.partitions:
            if partition.name == name:
                return partition
        known = [partition.name for partition in self.partitions]
        raise UserError(f"the cluster {self.name} has no partition {name!r}", remedy=choices(name, known))
