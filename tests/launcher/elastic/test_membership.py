"""One authority decides each world: who is in it, whose state counts, and when nobody may go on."""

from __future__ import annotations

import random

from saman.launcher.elastic.membership import Membership, Orders
from saman.runs.elastic.messages import MemberReport, OrderKind, ReportKind, World
from saman.runs.elastic.world_events import WorldCause

READY = MemberReport(ReportKind.READY)


def left(step: int, epoch: int = 0, position: str = "here") -> MemberReport:
    return MemberReport(ReportKind.LEFT, step=step, epoch=epoch, position=position)


def world_of(orders: Orders) -> World:
    """The world that the orders form; every member gets the same."""
    worlds = {order.world for _, order in orders if order.kind is OrderKind.FORM}
    (world,) = worlds
    assert world is not None
    assert sorted(slot for slot, _ in orders) == sorted(world.slots)
    return world


def running(size: int = 4, minimum: int = 2) -> Membership:
    """A run whose first world has taken steps."""
    members = Membership(minimum, range(size))
    orders = [order for slot in range(size) for order in members.take(slot, READY)]
    assert world_of(orders).slots == tuple(range(size))
    for slot in range(size):
        members.take(slot, MemberReport(ReportKind.STEPPED, generation=1))
    return members


def test_the_first_world_waits_for_every_process_that_starts() -> None:
    members = Membership(2, range(3))
    assert members.take(0, READY) == []
    assert members.take(1, READY) == []
    assert world_of(members.take(2, READY)).slots == (0, 1, 2)


def test_a_loss_wakes_every_survivor_and_the_next_world_waits_until_all_have_left() -> None:
    members = running()
    orders = members.lose(1)
    assert {(slot, order.kind) for slot, order in orders} == {(slot, OrderKind.LEAVE) for slot in (0, 2, 3)}
    assert not [order for order in members.take(0, left(7)) if order[1].kind is OrderKind.FORM]
    assert not [order for order in members.take(3, left(7)) if order[1].kind is OrderKind.FORM]
    world = world_of(members.take(2, left(7)))
    assert world.slots == (0, 2, 3)
    assert world.generation == 2
    assert not world.spread  # equal steps: nothing needs to be sent
    assert members.change is not None
    assert (members.change.cause, members.change.step, members.change.lost) == (WorldCause.LOSS, 7, (1,))


def with_spare() -> Membership:
    """A run of two ranks whose third process waits for a place."""
    members = Membership(1, range(3), maximum=2)
    assert members.take(2, READY) == []
    assert world_of(members.take(0, READY)).slots == (0, 2)  # the first two that are ready
    assert members.take(1, READY) == []  # nobody is disturbed
    for slot in (0, 2):
        members.take(slot, MemberReport(ReportKind.STEPPED, generation=1))
    return members


def test_a_warm_spare_takes_the_place_of_a_lost_rank_in_the_very_next_world() -> None:
    members = with_spare()
    members.lose(0)
    world = world_of(members.take(2, left(7)))
    assert (world.slots, world.source, world.spread) == ((2, 1), 0, True)
    assert members.change is not None
    assert (members.change.lost, members.change.joined) == ((0,), (1,))
    members.starts(0)
    assert members.take(0, READY) == []  # it is the spare now


def test_a_spare_that_dies_disturbs_nobody_and_ends_well_with_the_run() -> None:
    members = with_spare()
    assert members.lose(1) == []
    members.starts(1)
    members.take(1, READY)
    orders = members.take(0, MemberReport(ReportKind.DONE))
    assert (1, OrderKind.FINISHED) in [(slot, order.kind) for slot, order in orders]


def test_the_state_of_the_most_advanced_survivor_counts() -> None:
    members = running()
    members.lose(0)
    members.take(1, left(7))
    members.take(2, left(8, position="ahead"))
    world = world_of(members.take(3, left(7)))
    assert world.slots[world.source or 0] == 2
    assert world.position == "ahead"
    assert world.spread


def test_an_epoch_that_one_survivor_has_ended_is_ended_for_all() -> None:
    members = running(3)
    members.lose(0)
    members.take(1, left(34, epoch=0))
    world = world_of(members.take(2, left(34, epoch=1, position="next epoch")))
    assert world.position == "next epoch"
    assert not world.spread  # the weights are equal


def test_a_survivor_that_was_interrupted_inside_an_update_counts_as_a_member_without_state() -> None:
    members = running(3)
    members.lose(0)
    members.take(1, left(9, position=""))
    world = world_of(members.take(2, left(8)))
    assert world.slots[world.source or 0] == 2
    assert world.spread


def test_a_process_that_is_ready_joins_at_once_and_receives_the_state() -> None:
    members = running()
    members.lose(3)
    for slot in (0, 1, 2):
        orders = members.take(slot, left(5))
    assert world_of(orders).slots == (0, 1, 2)
    members.starts(3)
    orders = members.take(3, READY)
    assert {slot for slot, order in orders if order.kind is OrderKind.LEAVE} == {0, 1, 2}
    for slot in (0, 1, 2):
        orders = members.take(slot, left(9))
    world = world_of(orders)
    assert world.slots == (0, 1, 2, 3)
    assert world.spread
    assert members.change is not None
    assert (members.change.cause, members.change.joined) == (WorldCause.JOIN, (3,))


def test_fewer_than_the_minimum_take_no_step_and_go_on_when_another_comes() -> None:
    members = running(3, minimum=2)
    members.lose(0)
    members.lose(1)
    assert members.take(2, left(5)) == []
    members.starts(0)
    world = world_of(members.take(0, READY))
    assert world.slots == (2, 0)  # the survivor leads
    assert world.source == 0


def test_without_any_survivor_the_next_world_begins_from_a_checkpoint() -> None:
    members = running(2, minimum=1)
    members.starts(0)
    members.starts(1)
    members.lose(0)
    members.lose(1)
    members.starts(0)
    members.starts(1)
    assert members.take(0, READY) == []  # slot 1 is on its way
    world = world_of(members.take(1, READY))
    assert world.source is None


def test_an_exchange_that_fails_although_all_live_forms_the_same_world_again() -> None:
    members = running(2)
    orders = members.take(1, left(5))
    assert [(slot, order.kind) for slot, order in orders] == [(0, OrderKind.LEAVE)]
    assert world_of(members.take(0, left(5))).slots == (0, 1)
    assert members.change is not None
    assert members.change.cause is WorldCause.EXCHANGE


def test_a_step_that_fails_in_world_after_world_is_given_up() -> None:
    members = running(2)
    for _ in range(4):
        members.take(0, left(5))
        members.take(1, left(5))
    assert members.problem is not None
    assert "step 6" in members.problem


def test_after_the_first_member_is_done_nobody_forms_a_world_any_more() -> None:
    members = running(3)
    members.take(0, MemberReport(ReportKind.DONE))
    assert members.lose(0) == []
    members.lose(1)
    orders = members.take(2, left(50))
    assert [(slot, order.kind) for slot, order in orders] == [(2, OrderKind.FINISHED)]
    members.take(2, MemberReport(ReportKind.DONE))
    assert members.is_over


def test_survivors_that_cannot_leave_a_half_formed_world_save_the_state_once_and_end() -> None:
    members = running(3)
    members.lose(0)
    members.take(1, left(7))
    members.take(2, left(7))  # a world of 1 and 2 is being formed
    members.lose(2)
    orders = members.take(1, MemberReport(ReportKind.STUCK, step=7, position="here"))
    assert [(slot, order.kind) for slot, order in orders] == [(1, OrderKind.SAVE)]


def test_whatever_happens_no_two_worlds_overlap_and_every_world_is_large_enough() -> None:
    for seed in range(200):
        _live(random.Random(seed))


def _live(chance: random.Random) -> None:
    """Drive a membership by chance; whoever is ordered obeys, in any order."""
    members, step = Membership(2, range(4)), 0
    inside: dict[int, int] = {}  # slot -> the world it is in
    pending = [(slot, READY) for slot in range(4)]
    for _ in range(120):
        if pending and chance.random() < 0.8:
            slot, report = pending.pop(chance.randrange(len(pending)))
            orders = members.take(slot, report)
        else:
            slot = chance.randrange(4)
            pending = [item for item in pending if item[0] != slot]
            inside.pop(slot, None)
            orders = members.lose(slot)
            members.starts(slot)
            pending.append((slot, READY))
        for slot, order in orders:
            if order.kind is OrderKind.LEAVE and slot in inside:
                del inside[slot]
                pending.append((slot, left(step)))
            elif order.kind is OrderKind.FORM:
                assert order.world is not None
                assert len(order.world.slots) >= 2
                assert not set(inside.values()) - {order.generation}, "a member is still in an older world"
                inside[slot] = order.generation
                step += 1
