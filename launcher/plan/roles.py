"""Roles of processes in a plan: who coordinates, who holds variables, who works. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from saman.configs.schemas.script import Script
from saman.runs.tf_cluster.roles import Job, Roles

if TYPE_CHECKING:
    from saman.configs.schemas.experiment import Experiment


@dataclass(frozen=True)
class ServingProcesses:
    """Processes that take no steps of their own.

    Attributes:
        servers: Processes that hold the variables; the run needs each of them.
        workers: Processes that compute what the coordinator asks of them.
        may_be_lost: Whether the start method lets a worker end without the others.
    """

    servers: frozenset[int]
    workers: frozenset[int]
    may_be_lost: bool


def serving_processes(spec: Experiment | Script) -> ServingProcesses | None:
    """The processes that take no steps of their own by the plan of roles; ``None`` without parameter servers."""
    if isinstance(spec, Script) or spec.train.strategy != "parameter_server" or spec.train.parameter_server is None:
        return None
    roles, ranks = Roles(chief=True, servers=spec.train.parameter_server.servers), spec.resources.ranks
    servers, workers = (roles.processes_of(job, ranks) for job in (Job.SERVER, Job.WORKER))
    return ServingProcesses(servers=servers, workers=workers, may_be_lost=True)


def roles_note(spec: Experiment | Script) -> str | None:
    """Return a sentence on the roles of the ranks; ``None`` if all ranks are equal."""
    if isinstance(spec, Script):
        asked, ranks = spec.launch.tf_config, spec.resources.ranks
        if asked is None:
            return None
        tasks = Roles(asked.chief, asked.servers, asked.evaluator).tasks(ranks)
        return "TF_CONFIG: " + ", ".join(f"rank {rank} is {task}" for rank, task in enumerate(tasks))
    servers = spec.train.parameter_server
    if spec.train.strategy != "parameter_server" or servers is None:
        return None
    held, ranks = 1 + servers.servers, spec.resources.ranks
    who = (
        f"rank 0 coordinates, {_ranks(1, held)} {'holds' if held == 2 else 'hold'} the variables, "
        f"{_ranks(held, ranks)} {'works' if held == ranks - 1 else 'work'}"
    )
    if servers.synchronous:
        return f"{who}; synchronous: the steps are those of a single rank"
    return (
        f"{who}; asynchronous: workers update weights that others change meanwhile, so these are not the steps of a "
        "single rank, and no run repeats another (train.parameter_server.synchronous: true is exact)"
    )


def _ranks(begin: int, end: int) -> str:
    return f"rank {begin}" if end - begin == 1 else f"ranks {begin}–{end - 1}"
