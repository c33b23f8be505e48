"""Roles of processes in TF_CONFIG, in the order of the processes: chief, servers, workers, evaluator. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Job(str, Enum):
    """A role, as TF_CONFIG spells it."""

    CHIEF = "chief"
    SERVER = "ps"
    WORKER = "worker"
    EVALUATOR = "evaluator"


@dataclass(frozen=True)
class Task:
    """A process in TF_CONFIG: its role, and its number among the processes of this role."""

    job: Job
    index: int

    def __str__(self) -> str:
        return f"{self.job.value} {self.index}"


@dataclass(frozen=True)
class Roles:
    """What the processes of a run are, beside workers.

    Attributes:
        chief: Whether process 0 is the chief: it leads the workers, and with servers it coordinates them.
        servers: The number of parameter servers.
        evaluator: Whether the last process evaluates beside the training.
    """

    chief: bool = False
    servers: int = 0
    evaluator: bool = False

    @property
    def fewest(self) -> int:
        """The smallest TF_CONFIG cluster: one worker, or a chief in its place where there are no servers."""
        alone = self.chief and not self.servers
        return self.chief + self.servers + self.evaluator + (not alone)

    def tasks(self, processes: int) -> tuple[Task, ...]:
        """Return the TF_CONFIG task of each process.

        Raises:
            ValueError: There are too few processes.

        Example:
            >>> [str(task) for task in Roles(chief=True, servers=1).tasks(4)]
            ['chief 0', 'ps 0', 'worker 0', 'worker 1']
        """
        if processes < self.fewest:
            raise ValueError(f"{processes} processes are fewer than the {self.fewest} that these roles need")
        workers = processes - self.chief - self.servers - self.evaluator
        counts = {Job.CHIEF: int(self.chief), Job.SERVER: self.servers, Job.WORKER: workers}
        counts[Job.EVALUATOR] = int(self.evaluator)
        return tuple(Task(job, index) for job, count in counts.items() for index in range(count))

    def processes_of(self, job: Job, processes: int) -> frozenset[int]:
        """Return the numbers of the processes with a role."""
        return frozenset(number for number, task in enumerate(self.tasks(processes)) if task.job is job)

    @property
    def text(self) -> str:
        """The roles as text, for a variable; ``from_text`` reads it."""
        return f"chief={int(self.chief)},ps={self.servers},evaluator={int(self.evaluator)}"

    @classmethod
    def from_text(cls, text: str) -> Roles:
        """Read what ``text`` returned.

        >>> Roles.from_text(Roles(servers=2).text)
        Roles(chief=False, servers=2, evaluator=False)
        """
        values = {name: int(number) for name, _, number in (part.partition("=") for part in text.split(","))}
        return cls(bool(values["chief"]), values["ps"], bool(values["evaluator"]))


WORKERS = Roles()


def tf_config(endpoints: Sequence[str], index: int, roles: Roles = WORKERS) -> dict[str, Any]:
    """Return the value of TF_CONFIG for process ``index`` of those that listen at ``endpoints`` (``host:port``).

    Without a chief, worker 0 leads. An evaluator is no part of the cluster, as TensorFlow expects it.
    """
    tasks = roles.tasks(len(endpoints))
    cluster: dict[str, list[str]] = {}
    for task, endpoint in zip(tasks, endpoints, strict=True):
        if task.job is not Job.EVALUATOR:
            cluster.setdefault(task.job.value, []).append(endpoint)
    return {"cluster": cluster, "task": {"type": tasks[index].job.value, "index": tasks[index].index}}
