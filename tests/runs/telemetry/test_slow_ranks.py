"""A rank is named once it has been slow for a while, and until it no longer is; leaving pays only where it helps."""

from __future__ import annotations

from saman.runs.telemetry import slow_ranks
from saman.runs.telemetry.slow_ranks import SlowRanks
from saman.runs.telemetry.stragglers import Straggler

SLOW = Straggler(3, "n1", 0.4)


def looks(ranks: SlowRanks, found: list[Straggler], begin: float, end: float) -> list[tuple[float, int, bool]]:
    """Look once a second; return the time, the rank and the end of each change."""
    changes = []
    for now in range(int(begin), int(end)):
        changes += [(float(now), change.straggler.rank, change.ended) for change in ranks.look(found, float(now))]
    return changes


def test_a_rank_is_named_once_and_until_it_is_as_fast_as_its_peers() -> None:
    ranks = SlowRanks()
    named = slow_ranks.NAMED_AFTER_SECONDS
    assert looks(ranks, [SLOW], 0, 20) == [(named, 3, False)]
    assert looks(ranks, [], 20, 40) == [(19 + slow_ranks.OVER_AFTER_SECONDS, 3, True)]
    assert looks(ranks, [SLOW], 40, 60) == [(40 + named, 3, False)]


def test_a_moment_is_not_named_and_a_named_rank_does_not_flicker() -> None:
    ranks = SlowRanks()
    assert looks(ranks, [SLOW], 0, 3) == [] and looks(ranks, [], 3, 5) == []
    assert looks(ranks, [SLOW], 5, 9) == []  # the moments do not add up
    ranks = SlowRanks()
    looks(ranks, [SLOW], 0, 10)
    assert looks(ranks, [], 10, 14) + looks(ranks, [SLOW], 14, 20) == []


def test_a_rank_leaves_only_if_the_others_are_faster_without_it() -> None:
    """Three ranks that do the work of four take 4 ÷ 3 as long: a rank 30 % slower is still a help, 40 % is not."""
    for slower, leaves in ((0.3, False), (0.4, True)):
        ranks = SlowRanks()
        looks(ranks, [Straggler(2, "n0", slower)], 0, 70)
        assert (ranks.to_exclude(4, 2, 70.0) is not None) is leaves
        assert ranks.to_exclude(4, 4, 70.0) is None  # the run needs all of them
        assert ranks.to_exclude(4, 2, 30.0) is None  # not yet


def test_the_slowest_of_several_leaves() -> None:
    ranks = SlowRanks()
    looks(ranks, [SLOW, Straggler(1, "n0", 0.9)], 0, 70)
    found = ranks.to_exclude(8, 2, 70.0)
    assert found is not None and found.rank == 1
