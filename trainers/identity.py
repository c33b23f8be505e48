"""Which ranks this process computes, under every start method: saman's launcher, mpirun, horovodrun, srun, by hand.

``saman.runs.ranks.identity`` says which process this is; this file adds its ranks.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from saman.configs.errors import UserError
from saman.configs.schemas.experiment import Experiment
from saman.runs import variables
from saman.runs.ranks.identity import ProcessIdentity, identify, node_name


@dataclass(frozen=True, kw_only=True)
class WorkerIdentity:
    """A process of the run, the ranks that it computes, and the attempt that started it.

    Attributes:
        process: The process's number among all processes.
        first_rank: The first rank of this process.
        ranks_here: The number of ranks of this process.
        size: The number of ranks of the run.
        node: The name of the node.
        attempt: The number of the attempt; 0 for a process that was started by hand.
        code_path: Folders of the user's code, from the launcher.
    """

    process: ProcessIdentity
    first_rank: int
    ranks_here: int
    size: int
    node: str
    attempt: int = 0
    code_path: tuple[str, ...] = ()

    @property
    def ranks(self) -> tuple[int, ...]:
        """The ranks that compute in this process."""
        return tuple(range(self.first_rank, self.first_rank + self.ranks_here))

    @property
    def supervised(self) -> bool:
        """Whether saman's supervisor started this process and records the run's state."""
        return self.attempt > 0


def world_size(environ: Mapping[str, str], experiment: Experiment) -> int:
    """Return the number of ranks: the launcher's, else the experiment's."""
    return _number(environ, variables.SIZE, experiment.resources.ranks)


def identify_worker(environ: Mapping[str, str], experiment: Experiment) -> WorkerIdentity:
    """Return the identity of this process; what the launcher says takes precedence over the experiment.

    Raises:
        UserError: The number of processes does not match the number of ranks.
    """
    process = identify(environ)
    here = _number(environ, variables.RANKS_HERE, experiment.devices_per_process)
    size = world_size(environ, experiment)
    if process.processes * here != size:
        raise UserError(
            f"{process.processes} processes of {here} ranks were started, but the run has {size} ranks",
            where="start command",
            remedy=f"start {size // here} processes",
        )
    return WorkerIdentity(
        process=process,
        first_rank=_number(environ, variables.FIRST_RANK, process.process * here),
        ranks_here=here,
        size=size,
        node=environ.get(variables.NODE) or node_name(environ),
        attempt=_number(environ, variables.ATTEMPT, 0),
        code_path=tuple(part for part in environ.get(variables.CODE_PATH, "").split(os.pathsep) if part),
    )


def _number(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name)
    if not text:
        return default
    try:
        return int(text)
    except ValueError:
        raise UserError(f"{name}={text!r} is not a whole number", where="environment") from None
