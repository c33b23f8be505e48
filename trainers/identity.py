"""Which process of how many this one is and which ranks it holds; the same whether saman or a person started it."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from saman.configs.errors import UserError
from saman.runs import variables
from saman.runs.ranks.identity import identify


@dataclass(frozen=True)
class RankIdentity:
    """This process among all processes, and the ranks in it. ``attempt`` is 0 where a person started it."""

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

    @property
    def supervised(self) -> bool:
        """Whether saman's supervisor started this process and keeps the run's books."""
        return self.attempt > 0


def identity(environ: Mapping[str, str], devices_per_process: int, size: int) -> RankIdentity:
    """Who this process is. ``devices_per_process`` and ``size`` are what the experiment says; the launcher wins.

    Raises ``UserError`` where another number of processes was started than the ranks need.
    """
    who = identify(environ)
    here = _number(environ, variables.RANKS_HERE, devices_per_process)
    size = _number(environ, variables.SIZE, size)
    if who.processes * here != size:
        raise UserError(
            f"{who.processes} processes of {here} ranks were started, but the run has {size} ranks",
            where="start command",
            remedy=f"start {size // here} processes",
        )
    return RankIdentity(
        process=who.process,
        processes=who.processes,
        first_rank=_number(environ, variables.FIRST_RANK, who.process * here),
        ranks_here=here,
        size=size,
        node=environ.get(variables.NODE) or environ.get("SLURMD_NODENAME") or socket.gethostname(),
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
