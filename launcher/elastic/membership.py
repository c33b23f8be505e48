"""Decides which members form a world, and when. Pure: reports and losses in, orders out.

    READY ──► FORM ──► FORMED ──► AGREED ──► STEPPED      a loss, a broken exchange, a member that is READY: LEAVE
      ▲                                         │
      └────────────── LEFT ◄────── LEAVE ◄──────┘         FORM once every living member has left

A world is formed only when every member has left the old world, so two worlds never exist at a time. There is no time
limit: every decision follows from a report or from the end of a process.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from saman.runs.elastic.messages import MemberReport, Order, OrderKind, ReportKind, World
from saman.runs.elastic.world_events import WorldCause

MOST_WITHOUT_PROGRESS = 3  # worlds in a row that end at the step at which they began


@dataclass(frozen=True)
class WorldChange:
    """What a world changes.

    Attributes:
        cause: Why it was formed.
        world: The world.
        step: Steps in its state; 0 without state.
        lost: Slots of the world before that are not in it.
        joined: Slots that were not in the world before.
    """

    cause: WorldCause
    world: World
    step: int
    lost: tuple[int, ...]
    joined: tuple[int, ...]


Orders = list[tuple[int, Order]]


class Membership:
    """The members of a run and their worlds.

    Attributes:
        change: The newest world and what it changed; ``None`` before the first.
        finished: The slots that have finished the run.
        problem: Why no further world can be formed; ``None`` as long as the run can go on.
    """

    def __init__(self, minimum: int, starting: Iterable[int], maximum: int | None = None) -> None:
        """Begin without a world.

        Args:
            minimum: The smallest number of ranks that may take steps.
            starting: The slots whose processes are being started.
            maximum: The largest number of ranks in a world; by default as many as slots. Further members that are
                ready wait for a place.
        """
        self.change: WorldChange | None = None
        self.finished: set[int] = set()
        self.problem: str | None = None
        self._minimum = minimum
        self._starting = set(starting)
        self._maximum = len(self._starting) if maximum is None else maximum
        self._waiting: dict[int, MemberReport] = {}  # members without a world
        self._in_world: dict[int, ReportKind] = {}  # living members of the world: how far each has come
        self._leaving: set[int] = set()  # members that were told to leave the world
        self._stuck: dict[int, MemberReport] = {}
        self._cause: WorldCause | None = WorldCause.START  # of the next world; ``None`` while the world is sound
        self._without_progress = 0

    @property
    def world(self) -> World | None:
        """The newest world."""
        return self.change.world if self.change is not None else None

    @property
    def is_sound(self) -> bool:
        """Whether there is a world, and nothing has happened that ends it."""
        return self.change is not None and self._cause is None

    @property
    def is_over(self) -> bool:
        """Whether members have finished the run and no other is on its way to the end."""
        return bool(self.finished) and not self._in_world

    def starts(self, slot: int) -> None:
        """Note that a process for the slot is being started."""
        self._starting.add(slot)

    def take(self, slot: int, report: MemberReport) -> Orders:
        """Take the report of a member."""
        kind = report.kind
        if kind is ReportKind.DONE:
            self._in_world.pop(slot, None)
            self.finished.add(slot)
        elif kind is ReportKind.READY:
            self._starting.discard(slot)
            self._waiting[slot] = report
            if len(self._in_world) < self._maximum:
                self._cause = self._cause or WorldCause.JOIN
        elif kind is ReportKind.LEFT:
            self._in_world.pop(slot, None)
            self._waiting[slot] = report
            self._cause = self._cause or WorldCause.EXCHANGE
        elif kind is ReportKind.STUCK:
            self._stuck[slot] = report
        elif slot in self._in_world and self.world is not None and report.generation == self.world.generation:
            self._in_world[slot] = kind
        return self._decide()

    def lose(self, slot: int) -> Orders:
        """Take note that a member's process has ended."""
        self._starting.discard(slot)
        self._waiting.pop(slot, None)
        self._stuck.pop(slot, None)
        if self._in_world.pop(slot, None) is not None and slot not in self.finished:
            self._cause = WorldCause.LOSS
        return self._decide()

    def reached(self, kind: ReportKind) -> bool:
        """Whether every living member of the world has come as far as ``kind``."""
        order = [ReportKind.FORMED, ReportKind.AGREED, ReportKind.STEPPED]
        wanted = order[order.index(kind) :]
        return bool(self._in_world) and all(state in wanted for state in self._in_world.values())

    # ---- decisions ---------------------------------------------------------------------------------------

    def _decide(self) -> Orders:
        if self.finished:
            orders = [(slot, Order(OrderKind.FINISHED)) for slot in self._waiting]
            self._waiting.clear()
            return orders + (self._leave() if self._cause is not None else [])
        if self._cause is None or self.problem is not None:
            return []
        if self._in_world:
            return self._resolve_stuck() if self._stuck else self._leave()
        return self._form()

    def _leave(self) -> Orders:
        assert self.world is not None
        order = Order(OrderKind.LEAVE, self.world.generation)
        told, self._leaving = self._leaving, set(self._in_world)
        return [(slot, order) for slot in self._in_world if slot not in told]

    def _resolve_stuck(self) -> Orders:
        """End members that a death left in the middle of forming a world; one saves the state if nobody else has it."""
        if set(self._in_world) - set(self._stuck):
            return self._leave()  # others may still get out
        stuck, self._stuck = self._stuck, {}
        holders = sorted((slot for slot in stuck if stuck[slot].holds_state), key=lambda slot: _progress(stuck[slot]))
        kept = any(report.holds_state for report in self._waiting.values())
        orders = {slot: Order(OrderKind.END) for slot in stuck}
        if holders and not kept:
            orders[holders[-1]] = Order(OrderKind.SAVE)
        return list(orders.items())

    def _form(self) -> Orders:
        holders = [slot for slot in self._waiting if self._waiting[slot].holds_state]
        is_full = len(self._waiting) >= self._maximum
        if len(self._waiting) < self._minimum or (not holders and self._starting and not is_full):
            return []  # a process that starts will join
        before = self.world.slots if self.world is not None else ()
        rank_of = {slot: rank for rank, slot in enumerate(before)}
        ordered = sorted(self._waiting, key=lambda slot: (slot not in holders, rank_of.get(slot, len(before)), slot))
        slots = ordered[: self._maximum]
        world = World(self.world.generation + 1 if self.world is not None else 1, tuple(slots))
        step = 0
        if holders:
            most = max(holders, key=lambda slot: _progress(self._waiting[slot]))
            step = self._waiting[most].step
            members = [self._waiting[slot] for slot in slots]
            spread = any(not each.holds_state or each.step != step for each in members)
            position = self._waiting[most].position
            world = replace(world, source=slots.index(most), position=position, spread=spread)
        if not self._goes_on(step):
            return []
        lost, joined = (tuple(sorted(set(one) - set(other))) for one, other in ((before, slots), (slots, before)))
        assert self._cause is not None
        self.change = WorldChange(self._cause, world, step, lost, joined)
        self._in_world = dict.fromkeys(slots, ReportKind.READY)
        self._waiting = {slot: self._waiting[slot] for slot in ordered[self._maximum :]}
        self._leaving, self._cause = set(), None
        return [(slot, Order(OrderKind.FORM, world.generation, world)) for slot in slots]

    def _goes_on(self, step: int) -> bool:
        """Count worlds that took no step because of a failure; too many in a row are no accident."""
        before, unlucky = self.change, self._cause in (WorldCause.LOSS, WorldCause.EXCHANGE)
        stands = before is not None and before.step == step and unlucky
        self._without_progress = self._without_progress + 1 if stands else 0
        if self._without_progress >= MOST_WITHOUT_PROGRESS:
            self.problem = f"step {step + 1} failed in {self._without_progress + 1} worlds in a row"
        return self.problem is None


def _progress(report: MemberReport) -> tuple[int, int]:
    return report.step, report.epoch
