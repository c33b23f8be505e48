"""Logs of ranks and of the job script, attempt after attempt, also while they grow."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from saman.configs.errors import UserError
from saman.jobs.status import RunStatus
from saman.jobs.watch import RunWatch
from saman.launcher.plan.placement import Placement
from saman.runs.folder import RunFolder
from saman.runs.growing_files import Follower
from saman.runs.paths.attempt import Attempt
from saman.runs.ranks.attempt_ranks import read_records
from saman.runs.ranks.node_log import RankLogFollower

POLL_SECONDS = 0.5
LOOK_SECONDS = 1.0  # between two looks at the run folder


@dataclass(frozen=True)
class LogPiece:
    """A piece of a log. ``file`` is relative to the run folder; the piece ends after ``end`` bytes of it."""

    text: str
    file: str
    end: int


def read_logs(
    run: RunFolder,
    *,
    rank: int = 0,
    job: bool = False,
    attempt: int | None = None,
    follow: bool = False,
    tell: Callable[[RunStatus], None] | None = None,
    begin: Mapping[str, int] | None = None,
) -> Iterator[LogPiece]:
    """Read a log in pieces that name their place.

    Args:
        run: the run.
        rank: the rank, by the log of its process.
        job: read the job script's log instead.
        attempt: the attempt; by default all, in their order.
        follow: continue until the run has ended.
        tell: with ``follow``, called with the run's status every few seconds.
        begin: where an earlier reader stopped: the ``end`` of the last piece of each file.

    Raises:
        UserError: there is no such log.
    """
    begin = begin or {}
    followed: dict[Path, _LogFollower] = {}
    looked, watch = 0.0, RunWatch([run])
    while True:
        status: RunStatus | None = None
        if follow and time.monotonic() - looked > LOOK_SECONDS:
            looked = time.monotonic()
            (status,) = watch.look()
        over = not follow or (status is not None and status.over)
        if status is not None and tell is not None and not over:
            tell(status)
        for log in _logs(run, rank, job, attempt):
            start = begin.get(run.relative(log.file), 0)
            if log.file not in followed and log.older is not None and not start:
                # Once: a later rotation moves lines there that were read.
                yield from _pieces(run, log.follow(log.older))
            yield from _pieces(run, followed.setdefault(log.file, log.follow(log.file, start)))
        if over:
            if status is not None and tell is not None:
                tell(status)  # after the last lines, which the run wrote before it ended
            break
        time.sleep(POLL_SECONDS)
    if not any(log.shows_rank for log in _logs(run, rank, job, attempt)):
        raise _missing(run, rank, job)


class _LogFollower(Protocol):
    """Follows a log, or the lines of a rank in it."""

    path: Path

    @property
    def position(self) -> int:
        """The bytes of the log that were read."""

    def pieces(self) -> Iterator[str]:
        """Yield what was appended since the last look."""


@dataclass(frozen=True)
class _Log:
    """A log, the file with its older part, and for the log of a node the process whose lines are wanted."""

    file: Path
    older: Path | None = None
    first_rank: int | None = None
    node_state: Path | None = None

    @property
    def shows_rank(self) -> bool:
        """Whether the log is there, or is that of a node that has not printed anything."""
        return self.file.exists() or (self.node_state is not None and self.node_state.exists())

    def follow(self, file: Path, begin: int = 0) -> _LogFollower:
        """Follow the log, or its older part."""
        if self.first_rank is None:
            return Follower(file, begin=begin)
        return RankLogFollower(file, self.first_rank, begin)


def _pieces(run: RunFolder, follower: _LogFollower) -> Iterator[LogPiece]:
    for text in follower.pieces():
        yield LogPiece(text, run.relative(follower.path), follower.position)


def _logs(run: RunFolder, rank: int, job: bool, attempt: int | None) -> list[_Log]:
    """The job's log, or those of the attempts in which a rank printed."""
    if job:
        return [_Log(run.slurm.log)]
    attempts = run.attempts() if attempt is None else [run.attempt(attempt)]
    return [log for each in attempts for log in _logs_of(each, rank)]


def _logs_of(attempt: Attempt, rank: int) -> list[_Log]:
    """The log of the node of a rank, and that of its process, which is there where no node gathers."""
    placement = Placement.read(attempt.placement)
    if placement is None:
        known = (*read_records(attempt), *attempt.ranks())
        first = max((first for first in known if first <= rank), default=rank)
        return [_Log(attempt.log(first), attempt.older_log(first))]
    process = next((process for process in placement.processes if rank in process.ranks), None)
    if process is None:
        return [_Log(attempt.log(rank), attempt.older_log(rank))]
    first, node = process.first_rank, placement.nodes.index(process.node)
    return [
        _Log(attempt.log(first), attempt.older_log(first)),
        _Log(attempt.node_log(node), attempt.older_node_log(node), first, attempt.node_state(node)),
    ]


def _missing(run: RunFolder, rank: int, job: bool) -> UserError:
    attempts = run.attempts()
    known = sorted({*read_records(attempts[-1]), *attempts[-1].ranks()}) if attempts else []
    if job:
        return UserError("the job has printed nothing yet, or this run has no job", where=str(run.path))
    if not known:
        return UserError("no rank has printed anything yet", where=str(run.path), remedy="saman status shows why")
    return UserError(f"no log of rank {rank}", where=str(run.path), remedy=f"processes begin at ranks {known}")
