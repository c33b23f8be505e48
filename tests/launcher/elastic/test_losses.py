"""A lost worker of parameter servers is no failure of the attempt; everything else is."""

from __future__ import annotations

from typing import Any

import pytest

from saman.launcher.elastic.losses import Losses
from saman.launcher.plan.placement import Placement, Process
from saman.launcher.plan.roles import ServingProcesses
from saman.runs.events import Event

PLACEMENT = Placement(tuple(Process(index, "n", index, index, 1) for index in range(5)), 1)


def losses(may_be_lost: bool = True) -> tuple[Losses, list[str]]:
    """Losses of rank 0, the server 1, and the workers 2 to 4, and what they said."""
    said: list[str] = []
    serving = ServingProcesses(frozenset({1}), frozenset({2, 3, 4}), may_be_lost)
    return Losses(serving, PLACEMENT, lambda *given, **facts: None, said.append), said


def event(kind: str, **facts: Any) -> Event:
    """An event of a rank."""
    return Event(kind=kind, time=1.0, who="rank", attempt=1, facts=facts)


def exited(rank: int, **facts: Any) -> Event:
    """The end of a rank that a signal ended."""
    return event("rank_exited", rank=rank, node="n", **{"signal": 9, **facts})


def test_workers_are_lost_one_by_one_but_not_the_last() -> None:
    found, said = losses()
    assert found.spared == {2, 3, 4}
    assert found.take(exited(3)) and found.take(exited(2))
    assert (found.lost_ranks, found.members, len(said)) == ({2, 3}, {0, 1, 4}, 2)
    assert found.spared == {2, 3}
    assert not found.take(exited(4))
    assert found.members == {0, 1, 4}


@pytest.mark.parametrize("rank", [0, 1])
def test_the_coordinator_and_the_servers_are_needed(rank: int) -> None:
    found, said = losses()
    assert not found.take(exited(rank)) and not said
    assert rank not in found.spared


def test_a_start_method_that_ends_all_ranks_spares_none() -> None:
    found, _ = losses(may_be_lost=False)
    assert not found.take(exited(3)) and found.spared == frozenset()


def test_a_good_end_is_no_loss() -> None:
    found, said = losses()
    assert not found.take(exited(3, signal=None, code=0)) and not said and not found.lost_ranks


def test_a_worker_that_misses_the_coordinator_is_not_lost() -> None:
    found, said = losses()
    assert found.take(event("rank_failed", rank=3, node="n", failure="peer_lost", message="gone")) and not said
    assert found.lost_ranks == frozenset()
