"""Which processes a run with parameter servers may lose: workers, as long as one is left."""

from __future__ import annotations

from collections.abc import Callable

from saman.launcher.plan.placement import Placement
from saman.launcher.plan.roles import ServingProcesses
from saman.runs.events import Event, EventKind
from saman.runs.ranks.rank_events import FailureKind, RankExited, RankFailed


class Losses:
    """Tells the loss of a worker from a failure of the attempt."""

    def __init__(
        self,
        serving: ServingProcesses,
        placement: Placement,
        append: Callable[..., None],
        say: Callable[[str], None],
    ) -> None:
        """Prepare; nothing is lost yet.

        Args:
            serving: The processes without steps of their own.
            placement: All processes.
            append: Appends an event of the attempt.
            say: Shows a sentence to the user.
        """
        self._serving, self._append, self._say = serving, append, say
        self._all = frozenset(process.index for process in placement.processes)
        self._process_of = {process.first_rank: process.index for process in placement.processes}
        self._silent = frozenset(rank for rank, index in self._process_of.items() if index in self._passive)
        self._lost: set[int] = set()

    @property
    def _passive(self) -> frozenset[int]:
        return self._serving.servers | self._serving.workers

    @property
    def silent_ranks(self) -> frozenset[int]:
        """The ranks whose heartbeats say nothing about the progress of the training."""
        return self._silent

    @property
    def spared(self) -> frozenset[int]:
        """The processes whose exit status says nothing about the attempt: all workers, or all but the last."""
        if not self._serving.may_be_lost:
            return frozenset()
        return frozenset(self._lost) if self._is_alone else self._serving.workers

    @property
    def lost_ranks(self) -> frozenset[int]:
        """The ranks of the workers that were lost."""
        return frozenset(rank for rank, index in self._process_of.items() if index in self._lost)

    @property
    def members(self) -> frozenset[int]:
        """The processes whose end counts."""
        return self._all - self._lost

    def take(self, event: Event) -> bool:
        """Note an event; return whether it is the loss of a worker, or a consequence of one, and no failure."""
        failed, exited = RankFailed.from_event(event), RankExited.from_event(event)
        rank = failed.rank if failed is not None else exited.rank if exited is not None and exited.failed else None
        process = self._process_of.get(rank) if rank is not None else None
        if process is None or process not in self._serving.workers or not self._serving.may_be_lost:
            return False
        if failed is not None and failed.kind is FailureKind.PEER_LOST:  # the coordinator's own end will say more
            return True
        if process in self._lost:
            return True
        if self._is_alone:
            return False
        if failed is None:  # else its end is still to come
            self._lost.add(process)
            text = f"rank {rank} (a worker) is lost; the other workers take over its work"
            self._append(EventKind.NOTICE, text=text, rank=rank)
            self._say(text)
        return True

    @property
    def _is_alone(self) -> bool:
        """Whether a single worker is left."""
        return len(self._serving.workers - self._lost) == 1
