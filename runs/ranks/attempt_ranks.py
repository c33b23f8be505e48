"""Reads records and heartbeats of an attempt's ranks: from the reports of nodes, and from files of single ranks.

Ranks have files of their own where no folder of their node gathers them, and in run folders of earlier versions.
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from saman.configs.regular_files import open_regular
from saman.runs.files.slots import read_newest
from saman.runs.paths.attempt import Attempt
from saman.runs.paths.names import is_number, names_in
from saman.runs.ranks.heartbeats import Beat, last_sign_of_life, read_beat
from saman.runs.ranks.node_report import NodeReport
from saman.runs.ranks.records import RankRecord

SPARE_DESCRIPTORS = 200  # of this process, for everything but reports
MOST_OPENS = 8  # reports opened per look, beyond those that may stay open
MOST_SINGLE_BEATS = 256  # heartbeats of single ranks per look; of more ranks every n-th is read


@dataclass
class _Followed:
    """The report of a node: its newest version that was read, and its file where it stays open."""

    number: int = 0
    report: NodeReport | None = None
    descriptor: int | None = None


class AttemptRanks:
    """Reads the records and heartbeats of an attempt, look after look.

    Files of reports stay open between looks: a look costs no metadata operation per node, and an unchanged report only
    the reading of its header.

    Args:
        attempt: The attempt.
        nodes: The number of its nodes; with it, a complete set of reports is not looked for again.
        keep_open: Whether files stay open. Else ``look`` opens and closes each.
    """

    def __init__(self, attempt: Attempt, nodes: int | None = None, keep_open: bool = False) -> None:
        self._attempt, self._nodes = attempt, nodes
        self._room: int | None = None if keep_open else 0  # not known before the first look
        self._keep_open = keep_open
        self._followed: dict[int, _Followed] = {}
        self._turn = 0
        self._single: dict[int, Beat] = {}

    def look(self) -> None:
        """Read what has changed."""
        if self._room is None:  # not earlier: ranks that are started before keep the limit as it was
            self._room = _allow_descriptors(self._nodes or 0)
        if self._nodes is None or len(self._followed) < self._nodes:
            for node in self._attempt.nodes():
                self._followed.setdefault(node, _Followed())
        closed = []
        for node, followed in self._followed.items():
            if followed.descriptor is None and not self._open(node, followed):
                closed.append((node, followed))
            elif followed.descriptor is not None:
                _take(followed, followed.descriptor)
        for node, followed in self._in_turn(closed):
            with contextlib.suppress(OSError), open_regular(self._attempt.node_state(node)) as file:
                _take(followed, file.fileno())
        if self._nodes is None or len(self._followed) < self._nodes:
            self._single = _single_beats(self._attempt, MOST_SINGLE_BEATS if self._keep_open else None)

    @property
    def beats(self) -> dict[int, Beat]:
        """The newest heartbeats, by the first rank of the process."""
        return {**self._single, **{rank: beat for report in self._reports() for rank, beat in report.beats.items()}}

    @property
    def records(self) -> dict[int, RankRecord]:
        """The newest records in reports, by the first rank of the process."""
        return {rank: record for report in self._reports() for rank, record in report.records.items()}

    def close(self) -> None:
        """Close the files."""
        for followed in self._followed.values():
            if followed.descriptor is not None:
                os.close(followed.descriptor)
                followed.descriptor = None

    def _reports(self) -> Iterator[NodeReport]:
        return (followed.report for followed in self._followed.values() if followed.report is not None)

    def _open(self, node: int, followed: _Followed) -> bool:
        """Open a report for good, if a descriptor is left."""
        if not self._room:
            return False
        try:
            with open_regular(self._attempt.node_state(node)) as file:
                followed.descriptor = os.dup(file.fileno())
        except OSError:
            return False
        self._room -= 1
        _take(followed, followed.descriptor)
        return True

    def _in_turn(self, closed: list[tuple[int, _Followed]]) -> Iterable[tuple[int, _Followed]]:
        """The reports to open and close at this look: all, or the next few of those for which no descriptor is left."""
        if not self._keep_open or len(closed) <= MOST_OPENS:
            return closed
        begin = self._turn % len(closed)
        self._turn += MOST_OPENS
        return [*closed, *closed][begin : begin + MOST_OPENS]


def read_ranks(attempt: Attempt) -> AttemptRanks:
    """Read the records and heartbeats of an attempt as they are now."""
    found = AttemptRanks(attempt)
    found.look()
    return found


def read_records(attempt: Attempt) -> dict[int, RankRecord]:
    """Read the newest record of each process of an attempt, by its first rank."""
    single = ((rank, RankRecord.read(attempt.rank_record(rank))) for rank in attempt.ranks())
    found = {rank: record for rank, record in single if record is not None}
    for _, report in _reports(attempt):
        found.update(report.records)
    return dict(sorted(found.items()))


def read_record(attempt: Attempt, rank: int) -> RankRecord | None:
    """Read the newest record of the process whose first rank is ``rank``; ``None`` if it left none."""
    return read_records(attempt).get(rank)


def signs_of_life(attempt: Attempt) -> dict[int, float]:
    """When each rank of an attempt last showed a sign of life, by its first rank, in the file system's seconds."""
    found = {}
    for name in names_in(attempt.rank_folder):
        stem = name.removesuffix(".heartbeat.json")
        if stem != name and is_number(stem) and (seen := last_sign_of_life(attempt.rank_folder / name)) is not None:
            found[int(stem)] = seen
    for node, report in _reports(attempt):
        seen = last_sign_of_life(attempt.node_state(node))
        found.update({rank: seen for rank in report.beats if seen is not None})
    return found


def _reports(attempt: Attempt) -> Iterator[tuple[int, NodeReport]]:
    for node in attempt.nodes():
        report = read_report(attempt.node_state(node))
        if report is not None:
            yield node, report


def read_report(path: Path) -> NodeReport | None:
    """Read the newest whole report of a node; ``None`` if there is none."""
    followed = _Followed()
    with contextlib.suppress(OSError), open_regular(path) as file:
        _take(followed, file.fileno())
    return followed.report


def _take(followed: _Followed, descriptor: int) -> None:
    """Read a newer version of a report, if there is one."""
    with contextlib.suppress(OSError):
        stored = read_newest(descriptor, followed.number)
        if stored is not None:
            followed.number = stored.number
            followed.report = NodeReport.from_bytes(stored.value, followed.report) or followed.report


def _single_beats(attempt: Attempt, most: int | None) -> dict[int, Beat]:
    stems = (name.removesuffix(".heartbeat.json") for name in names_in(attempt.rank_folder) if "heartbeat" in name)
    ranks = sorted(int(stem) for stem in stems if is_number(stem))
    every = 1 if most is None else max(1, len(ranks) // most)
    found = ((rank, read_beat(attempt.heartbeat(rank))) for rank in ranks[::every])
    return {rank: beat for rank, beat in found if beat is not None}


def _allow_descriptors(wanted: int) -> int:
    """Raise this process's limit of open files where needed; returns how many reports may stay open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = wanted + SPARE_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < need:
        limit = need if hard == resource.RLIM_INFINITY else min(need, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return wanted if soft == resource.RLIM_INFINITY else max(0, min(wanted, soft - SPARE_DESCRIPTORS))
