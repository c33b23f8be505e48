"""The demo's strategies: it works on a shared machine too."""

from __future__ import annotations

from saman.cli.runs.demo import strategies
from saman.launcher.plan.shared_node import check_shared_node


def test_the_demo_takes_no_strategy_that_is_refused_beside_other_users() -> None:
    others = ("ada",)
    assert [check_shared_node(strategy, others, in_allocation=False) for strategy in strategies(others)] == [None, None]


def test_alone_on_a_machine_the_demo_shows_several_workers() -> None:
    assert strategies(()) == ("horovod", "multi_worker")
