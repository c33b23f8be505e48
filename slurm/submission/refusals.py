"""Why sbatch refused a job: a kind, and a sentence that names what was requested. Pure: text in, values out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum

from saman.slurm.site.pending import BrokenLimit, find_limit


class RefusalKind(str, Enum):
    """The reason of a refusal by Slurm."""

    ACCOUNT = "account"
    QOS = "qos"
    PARTITION = "partition"
    TIME_LIMIT = "time limit"
    NODE_COUNT = "node count"
    PROCESSORS = "processors"
    MEMORY = "memory"
    GPUS = "gpus"
    NODE_CONFIGURATION = "node configuration"
    CONSTRAINT = "constraint"
    RESERVATION = "reservation"
    ACCESS = "access"
    CONTROLLER_AWAY = "controller away"
    NODE_NAME = "node name"
    LICENCE = "licence"
    LIMIT = "limit"
    OTHER = "other"


@dataclass(frozen=True)
class RequestedResources:
    """The resources that the job requested, as text for the user."""

    account: str
    partition: str
    qos: str
    time: str
    nodes: str
    tasks: str
    cpus: str
    memory: str
    gpus: str
    constraint: str
    reservation: str


@dataclass(frozen=True)
class Refusal:
    """A job that Slurm did not take. ``limit`` is the limit that Slurm names, ``said`` its own words."""

    kind: RefusalKind
    said: str
    limit: BrokenLimit | None = None

    @property
    def environment_lacks(self) -> bool:
        """Whether nothing is wrong with the request itself."""
        return self.kind is RefusalKind.CONTROLLER_AWAY

    @property
    def passes_with_time(self) -> bool:
        """Whether the same request may be taken later: as many jobs are submitted as a limit allows."""
        return self.limit is not None and self.limit.counts_jobs

    def sentence(self, asked: RequestedResources) -> str:
        """The refusal in plain words, with what was requested."""
        if self.limit is not None:
            return f"Slurm refuses the job, because {self.limit.sentence()}"
        if self.kind is RefusalKind.OTHER:
            return f"Slurm refuses the job: {self.said or 'it gave no reason'}"
        return "Slurm refuses the job: " + _TEXTS[self.kind][0].format_map(asdict(asked))

    @property
    def remedy(self) -> str | None:
        """The remedy."""
        return None if self.kind is RefusalKind.OTHER else _TEXTS[self.kind][1]


# What sbatch prints.
_PRINTED = (
    ("Invalid account or account/partition combination", RefusalKind.ACCOUNT),
    ("Invalid qos specification", RefusalKind.QOS),
    ("nvalid partition", RefusalKind.PARTITION),
    ("Requested time limit is invalid", RefusalKind.TIME_LIMIT),
    ("Node count specification invalid", RefusalKind.NODE_COUNT),
    ("More processors requested than permitted", RefusalKind.PROCESSORS),
    ("Memory specification can not be satisfied", RefusalKind.MEMORY),
    ("Invalid generic resource", RefusalKind.GPUS),
    ("Requested node configuration is not available", RefusalKind.NODE_CONFIGURATION),
    ("Invalid feature specification", RefusalKind.CONSTRAINT),
    ("Requested reservation is invalid", RefusalKind.RESERVATION),
    ("Access/permission denied", RefusalKind.ACCESS),
    ("Unable to contact slurm controller", RefusalKind.CONTROLLER_AWAY),
    ("Socket timed out", RefusalKind.CONTROLLER_AWAY),
    ("Invalid node name", RefusalKind.NODE_NAME),
    ("Invalid license", RefusalKind.LICENCE),
    ("accounting/QOS policy", RefusalKind.LIMIT),
)
# The sentence and the remedy of each kind.
_TEXTS = {
    RefusalKind.ACCOUNT: (
        "the account {account} does not exist, is not yours, or may not use the partition {partition}",
        "list your accounts with `sacctmgr show associations user=$USER` and set account in the cluster file",
    ),
    RefusalKind.QOS: (
        "the QOS {qos} does not exist or is not open to the account {account}",
        "list your QOS with `saman quota --cluster …` and set qos in the cluster file",
    ),
    RefusalKind.PARTITION: (
        "the partition {partition} does not exist here", "list them with `sinfo` and correct the cluster file"
    ),
    RefusalKind.TIME_LIMIT: (
        "the time limit {time} is more than the partition {partition} allows",
        "a shorter resources.time_limit, or another partition",
    ),
    RefusalKind.NODE_COUNT: ("{nodes} nodes are more than the partition {partition} has or allows", "fewer nodes"),
    RefusalKind.PROCESSORS: ("{tasks} processes of {cpus} cores are more than {partition} has", "ask for less"),
    RefusalKind.MEMORY: (
        "no node of {partition} has the requested memory ({memory})",
        "a smaller resources.memory_per_rank; or request_memory: false if the site refuses --mem",
    ),
    RefusalKind.GPUS: ("this Slurm does not know the requested GPUs ({gpus})", "correct gpus in the cluster file"),
    RefusalKind.NODE_CONFIGURATION: (
        "no node of {partition} has all of this: {tasks} processes of {cpus} cores, memory {memory}, GPUs {gpus}",
        "ask for less per node, or correct the partition in the cluster file",
    ),
    RefusalKind.CONSTRAINT: ("no node has the constraint {constraint}", "list the features with `sinfo -o '%f'`"),
    RefusalKind.RESERVATION: (
        "the reservation {reservation} does not exist or is over", "correct reservation in the cluster file"
    ),
    RefusalKind.ACCESS: ("you may not use the partition {partition}", "ask the site for access"),
    RefusalKind.CONTROLLER_AWAY: (
        "Slurm's controller does not answer", "try again in a moment; `sinfo` shows when it is back"
    ),
    RefusalKind.NODE_NAME: ("a node to use or to exclude does not exist here", "list the nodes with `sinfo -N`"),
    RefusalKind.LICENCE: (
        "the licences in the cluster file do not exist", "list the licences with `scontrol show lic`"
    ),
    RefusalKind.LIMIT: (
        "it exceeds a limit of your account or QOS", "show the limits with `saman quota --cluster …`"
    ),
}  # fmt: skip


def read_refusal(stderr: str) -> Refusal:
    """Why sbatch refused, from what it printed."""
    said = " / ".join(line.removeprefix("sbatch: ").removeprefix("error: ") for line in stderr.strip().splitlines())
    limit = find_limit(stderr)
    if limit is not None:
        return Refusal(RefusalKind.LIMIT, said, limit)
    kind = next((kind for printed, kind in _PRINTED if printed in stderr), RefusalKind.OTHER)
    return Refusal(kind, said)
