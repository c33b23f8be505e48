"""The processes of an elastic run: which ends are losses, and their replacements."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

from saman.configs.schemas.launch.elastic import Elastic
from saman.launcher.elastic.seats import Seats
from saman.launcher.plan.placement import Placement
from saman.runs.elastic.world_events import WorldFormed
from saman.runs.events import Event, EventKind
from saman.runs.folder import Attempt
from saman.runs.ranks.rank_events import FailureKind, RankExited, RankFailed

_HERE = "127.0.0.1"
MOST_EARLY_ENDS = 3  # of processes of a slot in a row that end before they join a world
ASK_SECONDS = 5.0  # between two looks for nodes that can take lost ranks
HALF_FORMED = (
    "a rank was lost while a world was being formed, which the others cannot leave: one of them saves the state, and"
    " new processes go on from it"
)


@dataclass(frozen=True)
class Surroundings:
    """What an elastic run has around it.

    Attributes:
        host: The address by which ranks reach the supervisor; empty for an unknown address.
        spare_nodes: Nodes of the job without ranks.
        usable: Returns those of the given nodes, and new nodes, on which a process can start now; it may take seconds.
            ``None`` if all nodes count as usable.
        job_of: Returns the job through which a node is reached, empty for this job; ``None`` if it is this job always.
    """

    host: str = _HERE
    spare_nodes: tuple[str, ...] = ()
    usable: Callable[[Collection[str]], frozenset[str]] | None = None
    job_of: Callable[[str], str] | None = None


class Slots(Protocol):
    """The processes of an attempt by slot.

    Attributes:
        exit_statuses: The exit status of each; ``None`` while it runs.
    """

    @property
    def exit_statuses(self) -> list[int | None]: ...  # noqa: D102

    def replace(self, index: int, node: str, job: str = "") -> None:
        """Start a rank in the slot of a lost one, on a node of this job or of another."""

    def kill(self, index: int) -> None:
        """End the process of a slot, and what it started."""


class ElasticRanks:
    """Keeps the slots of an attempt filled.

    A process that a signal ends is lost, and another takes its slot, on the same node, or on a spare node if its node
    is lost. As long as no node can take it, the slot is vacant. A process that ends by itself with an error has met
    what its replacement would meet: then the attempt fails, and ``launch.restart`` decides.
    """

    def __init__(
        self,
        attempt: Attempt,
        placement: Placement,
        processes: Slots,
        limits: Elastic,
        append: Callable[..., None],
        say: Callable[[str], None],
        surroundings: Surroundings | None = None,
    ) -> None:
        """Open the authority, before any rank starts.

        Args:
            attempt: The files of the attempt.
            placement: The slots: processes in their order.
            processes: What runs in them.
            limits: The smallest and the largest number of ranks that take steps.
            append: Appends an event of the attempt.
            say: Shows a sentence to the user.
            surroundings: The nodes of the job; ``None`` for a run on this node.
        """
        from saman.launcher.elastic.authority import Authority  # a server, which other runs need not load

        around = surroundings or Surroundings()
        self._attempt, self._placement, self._minimum, self._usable = attempt, placement, limits.min, around.usable
        self._processes, self._append, self._say, self._job_of = processes, append, say, around.job_of
        self._worlds: queue.SimpleQueue[WorldFormed] = queue.SimpleQueue()
        self._half_formed = 0  # of the authority's, those that are recorded
        slots = range(len(placement.processes))
        self.authority = Authority(limits.min, slots, around.host, self._worlds.put, limits.max)
        self.authority.address.write(attempt.rendezvous)
        self._slot_of = {process.first_rank: process.index for process in placement.processes}
        self._own_errors: set[int] = set()  # slots whose process ended by itself with an error
        self._peers_lost: set[int] = set()
        self._early_ends = dict.fromkeys(slots, 0)
        self._excluded: set[int] = set()
        self._problem: str | None = None
        self._seats = Seats([process.node for process in placement.processes], around.spare_nodes)
        self._size = limits.max
        self._vacant: set[int] = set()  # slots without a process
        self._ended: set[int] = set()  # ranks whose process has ended since ``take_ended`` was called last
        self._answers: queue.SimpleQueue[frozenset[str]] = queue.SimpleQueue()
        self._asked: float | None = None  # when nodes were asked for last; ``None`` to ask at once
        self._asking: threading.Thread | None = None

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
        self._record_worlds()
        if self.authority.finished or self.problem is not None:
            return
        for slot, status in enumerate(self._processes.exit_statuses):
            # Even with status 0: srun may end so when a node fails. Nobody has finished the run yet.
            if status is not None and slot not in self._own_errors | self._vacant:
                self._vacate(slot)
        self._fill()

    def _record_worlds(self) -> None:
        if self.authority.half_formed > self._half_formed:
            self._half_formed = self.authority.half_formed
            self._append(EventKind.NOTICE.value, text=HALF_FORMED)
            self._say(HALF_FORMED)
        while not self._worlds.empty():
            world = self._worlds.get()
            self._append(EventKind.WORLD.value, **world.facts())
            self._excluded -= set(world.slots)
            self._size = world.size
            if world.generation > 1:
                self._say(world.sentence())
            self._early_ends.update(dict.fromkeys(world.slots, 0))

    def exclude(self, ranks: Iterable[int]) -> None:
        """End the processes of ranks that hang; others take their slots."""
        self._end({self._slot_of[rank] for rank in ranks})

    def exclude_slow(self, rank: int) -> None:
        """End the process of a slow rank, and avoid its place from now on."""
        self._end(self._seats.avoid(self._slot_of[rank]))

    @property
    def size(self) -> int:
        """The number of ranks in the newest world."""
        return self._size

    @property
    def absent(self) -> frozenset[int]:
        """The ranks, as planned, whose slots have no process now, or one that is being ended: nobody waits for them."""
        return frozenset(rank for rank, slot in self._slot_of.items() if slot in self._vacant | self._excluded)

    def take_ended(self) -> frozenset[int]:
        """Return the ranks, as planned, whose process has ended since the last call."""
        ended, self._ended = frozenset(self._ended), set()
        return ended

    def close(self) -> None:
        """Stop the authority; its last world is recorded, and no process starts any more."""
        self.authority.close()
        self._record_worlds()

    def _end(self, slots: Iterable[int]) -> None:
        for slot in set(slots) - self._excluded - self._vacant:
            self._excluded.add(slot)
            self._processes.kill(slot)

    # ---- vacant slots --------------------------------------------------------------------------------------

    def _vacate(self, slot: int) -> None:
        """Note that the process of a slot has ended."""
        self._vacant.add(slot)
        self._ended |= {rank for rank, index in self._slot_of.items() if index == slot}
        self._excluded.discard(slot)
        self._peers_lost.discard(slot)
        self.authority.ended(slot)
        if self._seats.is_empty(slot):
            return
        self._early_ends[slot] += 1
        if self._early_ends[slot] > MOST_EARLY_ENDS:
            self._problem = f"{MOST_EARLY_ENDS} replacements of rank {slot} ended before they could join the others"

    def _fill(self) -> None:
        """Start processes in vacant slots, on nodes that are known to be usable."""
        vacant = {slot for slot in self._vacant if not self._seats.is_empty(slot)}
        if not vacant or self._problem is not None:
            return
        if self._usable is None:
            self._start(vacant, self._seats.candidates(vacant))
        elif not self._answers.empty():
            self._start(vacant, self._answers.get())
            self._asking = None
            self._check_minimum()
        elif self._asking is None and (self._asked is None or time.monotonic() - self._asked >= ASK_SECONDS):
            self._asked, candidates = time.monotonic(), self._seats.candidates(vacant)
            usable, answers = self._usable, self._answers
            self._asking = threading.Thread(target=lambda: answers.put(usable(candidates)), daemon=True)
            self._asking.start()

    def _start(self, vacant: Iterable[int], usable: Collection[str]) -> None:
        self._seats.welcome(usable)
        for slot in sorted(vacant):
            before = self._seats.node(slot)
            node = self._seats.seat(slot, usable)
            if node is None:
                continue
            if node != before:
                self._placement = self._placement.moved(before, node)
                self._placement.write(self._attempt.placement)  # before its process reads it
                self._say(f"ranks of {before} start on {node}")
            self._vacant.discard(slot)
            self.authority.starts(slot)
            self._processes.replace(slot, node, self._job_of(node) if self._job_of is not None else "")

    def _check_minimum(self) -> None:
        """Give up if too few ranks are left and no node can take others."""
        left = len(self._slot_of) - len(self._vacant)
        if left < self._minimum:
            self._problem = f"{left} ranks are left, launch.elastic.min is {self._minimum}, and no node can take others"
