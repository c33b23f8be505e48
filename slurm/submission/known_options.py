"""Options that people know from sbatch, as the keys of an experiment and of a cluster file. Pure."""

from __future__ import annotations

from saman.configs.errors import UserError
from saman.configs.problems import validated
from saman.configs.schemas.cluster import Cluster
from saman.configs.units import format_clock, parse_slurm_time


def slurm_options(
    ranks: int | None, nodes: int | None, time_limit: str | None, gpus: int | None
) -> tuple[list[str], int | None]:
    """The changes of a submitted experiment for sbatch's ``--nodes``, ``--time`` and ``--gpus``, and its ranks.

    Args:
        ranks: ``-np``.
        nodes: number of nodes.
        time_limit: the time limit, in any form that sbatch takes.
        gpus: the GPUs of the job in all; without ``ranks`` each gets a rank.

    Raises:
        UserError: the GPUs do not divide among the ranks, or the time limit is not a duration.

    >>> slurm_options(None, 2, None, 8)
    (['resources.nodes=2', 'resources.gpus_per_rank=1'], 8)
    >>> slurm_options(None, None, "30", None)
    (['resources.time_limit="00:30:00"'], None)
    """
    changes = [] if nodes is None else [f"resources.nodes={nodes}"]
    changes += [] if time_limit is None else [f'resources.time_limit="{clock_of(time_limit)}"']
    if gpus is None:
        return changes, ranks
    ranks = gpus if ranks is None else ranks
    if gpus % ranks:
        raise UserError(
            f"{gpus} GPUs do not divide among {ranks} ranks", where="--gpus", remedy=f"a multiple of {ranks}"
        )
    return [*changes, f"resources.gpus_per_rank={gpus // ranks}"], ranks


def clock_of(time_limit: str) -> str:
    """sbatch's ``--time`` as the ``HH:MM:SS`` of an experiment; ``UserError`` for text that sbatch would not take."""
    try:
        return format_clock(parse_slurm_time(time_limit))
    except ValueError as error:
        raise UserError(str(error), where="--time") from None


def with_charging(cluster: Cluster, account: str | None, qos: str | None) -> Cluster:
    """The cluster with the submission's account, and its QOS for every partition."""
    values = cluster.model_dump(mode="json", by_alias=True)
    values |= {"account": account} if account else {}
    if qos:
        values["qos"] = qos
        values["partitions"] = [{**partition, "qos": None} for partition in values["partitions"]]
    return validated(Cluster, values, "command line")
