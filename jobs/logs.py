"""Logs of ranks and of the job script, attempt after attempt, also while they grow."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from saman.configs.errors import UserError
from saman.jobs.status import RunStatus
from saman.jobs.watch import RunWatch
from saman.launcher.plan.placement import Placement
from saman.runs.folder import RunFolder
from saman.runs.growing_files import Follower
from saman.runs.paths.attempt import Attempt
from saman.runs.ranks.attempt_ranks import read_records

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
) -> Iterator[str]:
    """Read a log in pieces.

    Args:
        run: the run.
        rank: the rank, by the log of its process.
        job: read the job script's log instead.
        attempt: the attempt; by default all, in their order.
        follow: continue until the run has ended.
        tell: with ``follow``, called with the run's status every few seconds.

    Raises:
        UserError: there is no such log.
    """
    for piece in read_pieces(run, rank=rank, job=job, attempt=attempt, follow=follow, tell=tell):
        yield piece.text


def read_pieces(
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
    followed: dict[Path, Follower] = {}
    looked, watch = 0.0, RunWatch([run])
    while True:
        status: RunStatus | None = None
        if follow and time.monotonic() - looked > LOOK_SECONDS:
            looked = time.monotonic()
            (status,) = watch.look()
        over = not follow or (status is not None and status.over)
        if status is not None and tell is not None and not over:
            tell(status)
        for older, file in _files(run, rank, job, attempt):
            start = begin.get(run.relative(file), 0)
            if file not in followed and older is not None and not start:
                yield from _pieces(run, Follower(older))  # once: a later rotation moves lines there that were read
            yield from _pieces(run, followed.setdefault(file, Follower(file, begin=start)))
        if over:
            if status is not None and tell is not None:
                tell(status)  # after the last lines, which the run wrote before it ended
            break
        time.sleep(POLL_SECONDS)
    if not any(file.exists() for file in followed):
        raise _missing(run, rank, job)


def _pieces(run: RunFolder, follower: Follower) -> Iterator[LogPiece]:
    for text in follower.pieces():
        yield LogPiece(text, run.relative(follower.path), follower.position)


def _files(run: RunFolder, rank: int, job: bool, attempt: int | None) -> list[tuple[Path | None, Path]]:
    """Each log, and before it the file with its older part."""
    if job:
        return [(None, run.slurm.log)]
    attempts = run.attempts() if attempt is None else [run.attempt(attempt)]
    first = [(each, _process(each, rank)) for each in attempts]
    return [(each.older_log(process), each.log(process)) for each, process in first]


def _process(attempt: Attempt, rank: int) -> int:
    """The first rank of the process that holds ``rank``; logs are named by it."""
    placement = Placement.read(attempt.placement)
    if placement is not None:
        return next((process.first_rank for process in placement.processes if rank in process.ranks), rank)
    known = (*read_records(attempt), *attempt.ranks())
    return max((first for first in known if first <= rank), default=rank)


def _missing(run: RunFolder, rank: int, job: bool) -> UserError:
    attempts = run.attempts()
    known = sorted({*read_records(attempts[-1]), *attempts[-1].ranks()}) if attempts else []
    if job:
        return UserError("the job has printed nothing yet, or this run has no job", where=str(run.path))
    if not known:
        return UserError("no rank has printed anything yet", where=str(run.path), remedy="saman status shows why")
    return UserError(f"no log of rank {rank}", where=str(run.path), remedy=f"processes begin at ranks {known}")
