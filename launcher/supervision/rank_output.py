"""Shows what ranks print while they are supervised: the newest lines of each, and the number of lines left out."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable

from saman.launcher.plan.placement import Placement
from saman.launcher.supervision.background_view import BackgroundView
from saman.runs.folder import Attempt
from saman.runs.growing_files import Follower
from saman.runs.ranks.node_log import NodeLogFollower

MOST_LINES = 1000  # shown at a look, of all ranks together; the rest is counted
SHOW_SECONDS = 0.2  # for reading at a look
REOPEN_SECONDS = 2.0  # between two looks for a log by name, at least
OPENS_PER_SECOND = 2  # of all logs together
SINGLE_SECONDS = 2.0  # between two looks for the logs of single ranks, which are there where no node gathers


class RankOutput:
    """Shows the output of some ranks.

    Args:
        attempt: The attempt.
        placement: The place of each rank.
        all_ranks: Show every rank, else the first process.
        view: Where lines are shown.
    """

    def __init__(self, attempt: Attempt, placement: Placement, all_ranks: bool, view: BackgroundView) -> None:
        self._view = view
        shown = placement.processes if all_ranks else placement.processes[:1]
        nodes: dict[str, list[int]] = {}
        for process in shown:
            nodes.setdefault(process.node, []).append(process.first_rank)
        index = {name: at for at, name in enumerate(placement.nodes)}
        wait = max(REOPEN_SECONDS, len(nodes) / OPENS_PER_SECOND)
        self._nodes = deque(
            NodeLogFollower(attempt.node_log(index[name]), ranks, reopen_seconds=wait) for name, ranks in nodes.items()
        )
        self._single = deque(
            (process.first_rank, Follower(attempt.log(process.first_rank), reopen_seconds=wait)) for process in shown
        )
        self._single_looked = 0.0

    def show(self, flush: bool = False) -> None:
        """Show what the ranks printed since the last look; after ``SHOW_SECONDS`` the others wait for the next.

        Args:
            flush: Show everything, last lines without an end too.
        """
        until = time.monotonic() + SHOW_SECONDS
        for _ in range(len(self._nodes)):
            self._nodes.rotate(-1)
            self._show_node(self._nodes[-1], flush)
            if time.monotonic() > until and not flush:
                return
        if not any(log.found for log in self._nodes) and (flush or self._single_is_due()):
            self._show_single(until, flush)

    def close(self) -> None:
        """Close the logs; the next look opens them again."""
        for node in self._nodes:
            node.close()
        for _, log in self._single:
            log.close()

    def _show_node(self, log: NodeLogFollower, flush: bool) -> None:
        lines, left_out = log.newest_lines(max(1, MOST_LINES // len(self._nodes)))
        for rank, count in left_out.items():
            self._view.leave_out(rank, count)
        self._say([*lines, *(log.unfinished() if flush else [])])

    def _single_is_due(self) -> bool:
        there = any(log.found for _, log in self._single)
        due = there or time.monotonic() - self._single_looked > SINGLE_SECONDS
        if due:
            self._single_looked = time.monotonic()
        return due

    def _show_single(self, until: float, flush: bool) -> None:
        for _ in range(len(self._single)):
            rank, log = self._single[0]
            self._single.rotate(-1)
            lines, left_out = log.newest_lines(max(1, MOST_LINES // len(self._single)))
            self._view.leave_out(rank, left_out)
            self._say((rank, line) for line in [*lines, *(log.lines(flush=True) if flush else [])])
            if time.monotonic() > until and not flush:
                return

    def _say(self, lines: Iterable[tuple[int, str]]) -> None:
        for rank, line in lines:
            self._view.line(rank, line)
