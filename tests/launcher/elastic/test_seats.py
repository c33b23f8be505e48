"""A lost rank comes back where a process can start: on its node, on a spare node, or not before a node returns."""

from __future__ import annotations

from saman.launcher.elastic.seats import Seats

HOMES = ("a", "a", "b", "b")


def test_a_rank_comes_back_on_its_own_node() -> None:
    seats = Seats(HOMES, ["c"])
    assert seats.seat(2, {"a", "b", "c"}) == "b"


def test_a_spare_node_takes_all_ranks_of_a_lost_node_together() -> None:
    seats = Seats(HOMES, ["c", "d"])
    assert [seats.seat(slot, {"a", "c", "d"}) for slot in (2, 3)] == ["c", "c"]
    assert [seats.seat(slot, {"c", "d"}) for slot in (0, 1)] == ["d", "d"]  # a spare node takes one node's ranks


def test_ranks_of_a_lost_node_wait_for_it_where_no_node_is_spare() -> None:
    seats = Seats(HOMES)
    assert seats.seat(2, {"a"}) is None
    assert seats.candidates([2]) == {"b"}
    assert seats.seat(2, {"a", "b"}) == "b"


def test_ranks_go_home_when_the_spare_node_is_lost_too_and_their_node_is_back() -> None:
    seats = Seats(HOMES, ["c"])
    assert seats.seat(2, {"a", "c"}) == "c"
    assert seats.candidates([2, 3]) == {"b", "c"}
    assert seats.seat(2, {"a", "b"}) == "b" and seats.seat(3, {"a", "b", "c"}) == "b"


def test_the_node_of_a_slow_rank_is_left_by_all_its_ranks_where_a_node_is_spare() -> None:
    seats = Seats(HOMES, ["c"])
    assert seats.avoid(3) == (2, 3)
    assert [seats.seat(slot, {"a", "b", "c"}) for slot in (2, 3)] == ["c", "c"]
    assert "b" not in seats.candidates([2, 3])


def test_the_slot_of_a_slow_rank_stays_empty_where_no_node_is_spare() -> None:
    seats = Seats(["a"] * 3)
    assert seats.avoid(1) == (1,)
    assert seats.seat(1, {"a"}) is None and seats.is_empty(1)
    assert seats.seat(0, {"a"}) == "a"


def test_a_node_that_has_come_to_the_run_takes_the_ranks_of_a_lost_node() -> None:
    seats = Seats(HOMES)
    seats.welcome({"a", "x"})
    assert [seats.seat(slot, {"a", "x"}) for slot in (2, 3)] == ["x", "x"]
    seats.welcome({"x"})  # lost and back
    assert seats.seat(2, {"x"}) == "x"
