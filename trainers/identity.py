"""Which process of how many this one is, by the environment that its starter gave it."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from saman.configs.errors import UserError

# Process index and process count, as the starters name them; saman's own first.
_STARTERS = (
    ("SAMAN_PROCESS", "SAMAN_PROCESSES"),
    ("HOROVOD_RANK", "HOROVOD_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMIX_RANK", "PMIX_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
)


@dataclass(frozen=True)
class Identity:
    """This process among all processes, and the ranks in it."""

    process: int
    processes: int
    first_rank: int
    ranks_here: int
    size: int
    node: str
    attempt: int
    code_path: tuple[str, ...]

    @property
    def ranks(self) -> tuple[int, ...]:
        """The ranks that compute in this process."""
        return tuple(range(self.first_rank, self.first_rank + self.ranks_here))


def identity(environment: Mapping[str, str], devices_per_process: int, size: int) -> Identity:
    """Who this process is. ``devices_per_process`` and ``size`` are what the experiment says; the environment wins.

    Raises ``UserError`` where the environment speaks of another number of processes than ``size`` needs.
    """
    process, processes = _process(environment)
    here = _number(environment, "SAMAN_RANKS_HERE", devices_per_process)
    size = _number(environment, "SAMAN_SIZE", size)
    if processes * here != size:
        raise UserError(
            f"{processes} processes of {here} ranks were started, but the run has {size} ranks",
            where="start command",
            remedy=f"start {size // here} processes",
        )
    return Identity(
        process=process,
        processes=processes,
        first_rank=_number(environment, "SAMAN_FIRST_RANK", process * here),
        ranks_here=here,
        size=size,
        node=environment.get("SAMAN_NODE") or environment.get("SLURMD_NODENAME") or socket.gethostname(),
        attempt=_number(environment, "SAMAN_ATTEMPT", 0),
        code_path=tuple(part for part in environment.get("SAMAN_CODE_PATH", "").split(os.pathsep) if part),
    )


def _process(environment: Mapping[str, str]) -> tuple[int, int]:
    for index, count in _STARTERS:
        if index in environment and count in environment:
            return _number(environment, index, 0), _number(environment, count, 1)
    return 0, 1


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name)
    if text is None:
        return default
    try:
        return int(text)
    except ValueError:
        raise UserError(f"{name}={text!r} is not a whole number", where="environment") from None
