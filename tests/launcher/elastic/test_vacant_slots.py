"""Slots of lost and of excluded ranks: who fills them, when, and when a run gives up."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

from saman.configs.schemas.launch.elastic import Elastic
from saman.launcher.elastic.ranks import MOST_EARLY_ENDS, ElasticRanks, Surroundings
from saman.launcher.plan.placement import Placement, Process
from saman.runs.folder import Attempt, RunFolder


class Slots:
    """Processes that end when a test says so."""

    def __init__(self, count: int) -> None:
        self.exit_statuses: list[int | None] = [None] * count
        self.started: list[tuple[int, str]] = []

    def replace(self, index: int, node: str, job: str = "") -> None:
        self.exit_statuses[index] = None
        self.started.append((index, node))

    def kill(self, index: int) -> None:
        self.exit_statuses[index] = -9


Made = tuple[ElasticRanks, Slots]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Made]]:
    made: list[ElasticRanks] = []

    def elastic(nodes: str, minimum: int = 1, **around: Any) -> Made:
        slots = Slots(len(nodes))
        placement = Placement(tuple(Process(i, node, nodes[:i].count(node), i, 1) for i, node in enumerate(nodes)), 1)
        attempt = attempt_in(tmp_path)
        found = Surroundings(**around) if around else None
        made.append(
            ElasticRanks(
                attempt,
                placement,
                slots,
                Elastic(min=minimum, max=len(nodes)),
                lambda *_, **__: None,
                lambda _: None,
                found,
            )
        )
        return made[-1], slots

    yield elastic
    for ranks in made:
        ranks.close()


def attempt_in(folder: Path) -> Attempt:
    attempt = RunFolder(folder).attempt(1)
    attempt.path.mkdir(parents=True)
    return attempt


def look_until(ranks: ElasticRanks, condition: Callable[[], object]) -> None:
    """Look as the supervisor does, until another thread's answer has been taken."""
    while not condition():
        ranks._asked = None
        ranks.look()


def test_a_killed_rank_is_replaced_at_once_on_one_node(make: Callable[..., Made]) -> None:
    ranks, slots = make("aaa")
    slots.kill(1)
    ranks.look()
    assert slots.started == [(1, "a")]
    assert ranks.take_ended() == {1} and not ranks.take_ended()


def test_the_slot_of_an_excluded_slow_rank_stays_empty_while_others_are_replaced(make: Callable[..., Made]) -> None:
    ranks, slots = make("aaa")
    ranks.exclude_slow(1)
    slots.kill(2)
    for _ in range(3):
        ranks.look()
    assert slots.exit_statuses == [None, -9, None] and slots.started == [(2, "a")]
    assert ranks.problem is None and ranks.absent == {1}  # nobody waits for its heartbeats


def test_a_replacement_that_ends_again_and_again_ends_the_attempt(make: Callable[..., Made]) -> None:
    ranks, slots = make("aa")
    for _ in range(MOST_EARLY_ENDS + 1):
        slots.kill(1)
        ranks.look()
    assert ranks.problem is not None and len(slots.started) == MOST_EARLY_ENDS


def test_ranks_of_a_lost_node_start_on_the_spare_node_which_their_wrappers_find_in_the_placement(
    make: Callable[..., Made], tmp_path: Path
) -> None:
    ranks, slots = make("aabb", spare_nodes=("c",), usable=lambda nodes: frozenset(nodes) - {"b"})
    slots.kill(2)
    slots.kill(3)
    look_until(ranks, lambda: slots.started)
    assert slots.started == [(2, "c"), (3, "c")]
    placement = Placement.read(RunFolder(tmp_path).attempt(1).placement)
    assert placement is not None and [process.node for process in placement.processes] == ["a", "a", "c", "c"]


def test_ranks_of_a_lost_node_wait_until_it_is_back(make: Callable[..., Made]) -> None:
    asked: list[frozenset[str]] = []
    back: set[str] = set()

    def usable(nodes: Collection[str]) -> frozenset[str]:
        asked.append(frozenset(nodes))
        return frozenset(back)

    ranks, slots = make("aabb", minimum=2, usable=usable)
    slots.kill(2)
    slots.kill(3)
    look_until(ranks, lambda: len(asked) > 1)
    assert not slots.started and ranks.problem is None
    back.add("b")
    look_until(ranks, lambda: slots.started)
    assert slots.started == [(2, "b"), (3, "b")]


def test_no_process_starts_once_the_attempt_is_over(make: Callable[..., Made]) -> None:
    ranks, slots = make("aaa")
    slots.exit_statuses = [-15, -15, -15]  # as the supervisor ends them
    ranks.close()
    assert not slots.started


def test_a_run_with_too_few_ranks_and_no_node_for_others_ends_its_attempt(make: Callable[..., Made]) -> None:
    ranks, slots = make("abb", minimum=2, usable=lambda _: frozenset[str]())
    slots.kill(1)
    slots.kill(2)
    look_until(ranks, lambda: ranks.problem)
    assert ranks.problem is not None and "min is 2" in ranks.problem
