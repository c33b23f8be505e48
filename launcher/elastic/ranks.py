"""The processes of an elastic run: which ends are losses, and their replacements."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterable
from typing import Protocol

from saman.configs.errors import ExitCode
from saman.launcher.elastic.authority import Authority
from saman.launcher.plan.placement import Placement
from saman.runs.elastic.world_events import WorldFormed
from saman.runs.events import Event, EventKind
from saman.runs.folder import Attempt
from saman.runs.ranks.rank_events import FailureKind, RankExited, RankFailed

_HERE = "127.0.0.1"
MOST_EARLY_ENDS = 3  # of processes of a slot in a row that end before they join a world


class Slots(Protocol):
    """The processes of an attempt by slot.

    Attributes:
        exit_statuses: The exit status of each; ``None`` while it runs.
    """

    @property
    def exit_statuses(self) -> list[int | None]: ...  # noqa: D102

    def replace(self, index: int) -> None:
        """Start another process in the slot of one that has ended."""

    def kill(self, index: int) -> None:
        """End the process of a slot, and what it started."""


class ElasticRanks:
    """Keeps the slots of an attempt filled.

    A process that a signal ends is lost, and another takes its slot. A process that ends by itself with an error has
    met what its replacement would meet: then the attempt fails, and ``launch.restart`` decides.
    """

    def __init__(
        self,
        attempt: Attempt,
        placement: Placement,
        processes: Slots,
        minimum: int,
        append: Callable[..., None],
        say: Callable[[str], None],
    ) -> None:
        """Open the authority, before any rank starts.

        Args:
            attempt: The files of the attempt.
            placement: The slots: processes in their order.
            processes: What runs in them.
            minimum: The smallest number of ranks that may take steps.
            append: Appends an event of the attempt.
            say: Shows a sentence to the user.
        """
        self._processes, self._append, self._say = processes, append, say
        self._worlds: queue.SimpleQueue[WorldFormed] = queue.SimpleQueue()
        self.authority = Authority(minimum, range(len(placement.processes)), _HERE, self._worlds.put)
        self.authority.address.write(attempt.rendezvous)
        self._slot_of = {process.first_rank: process.index for process in placement.processes}
        self._own_errors: set[int] = set()  # slots whose process ended by itself with an error
        self._peers_lost: set[int] = set()
        self._early_ends = dict.fromkeys(range(len(placement.processes)), 0)
        self._excluded: set[int] = set()
        self._problem: str | None = None

    @property
    def problem(self) -> str | None:
        """Why the attempt cannot go on; ``None`` as long as it can."""
        return self._problem or self.authority.problem

    @property
    def is_over(self) -> bool:
        """Whether the run is at its end, and the processes that took it there have exited."""
        statuses = self._processes.exit_statuses
        return self.authority.is_over and all(statuses[slot] is not None for slot in self.authority.finished)

    def is_failure(self, event: Event) -> bool:
        """Whether an event of a rank ends the attempt; a loss does not."""
        failed, exited = RankFailed.from_event(event), RankExited.from_event(event)
        if failed is not None and failed.kind is FailureKind.PEER_LOST:
            self._peers_lost.add(self._slot_of.get(failed.rank, -1))
            return False
        if exited is None:
            return event.kind == EventKind.RANK_FAILED
        slot = self._slot_of.get(exited.rank, -1)
        if not exited.failed or exited.stopped or exited.signal is not None or slot in self._peers_lost:
            return False
        self._own_errors.add(slot)
        return True

    def look(self) -> None:
        """Record new worlds, and replace processes that were lost."""
        while not self._worlds.empty():
            world = self._worlds.get()
            self._append(EventKind.WORLD.value, **world.facts())
            self._excluded -= set(world.slots)
            if world.generation > 1:
                self._say(world.sentence())
            self._early_ends.update(dict.fromkeys(world.slots, 0))
        if self.authority.finished or self.problem is not None:
            return
        for slot, status in enumerate(self._processes.exit_statuses):
            if status in (None, ExitCode.DONE, ExitCode.REQUEUE) or slot in self._own_errors:
                continue
            self._replace(slot)

    def exclude(self, ranks: Iterable[int]) -> None:
        """End the processes of ranks that hang; others take their slots."""
        for slot in {self._slot_of[rank] for rank in ranks} - self._excluded:
            self._excluded.add(slot)
            self._processes.kill(slot)

    def close(self) -> None:
        """Stop the authority; its last world is recorded."""
        self.authority.close()
        self.look()

    def _replace(self, slot: int) -> None:
        self.authority.ended(slot)
        self._early_ends[slot] += 1
        if self._early_ends[slot] > MOST_EARLY_ENDS:
            self._problem = f"{MOST_EARLY_ENDS} replacements of rank {slot} ended before they could join the others"
            return
        self._peers_lost.discard(slot)
        self.authority.starts(slot)
        self._processes.replace(slot)
