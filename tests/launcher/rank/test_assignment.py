"""A process takes the place that was planned for it, or fails the run."""

from __future__ import annotations

import pytest

from saman.launcher.plan.placement import Placement, Process, Seat
from saman.launcher.rank.assignment import MisplacedRank, assign_process, select_cores, select_gpus
from saman.runs.ranks.identity import ProcessIdentity

TWO = Placement(
    (Process(0, "n0", 0, 0, 1, (0, 1), (0,), 2), Process(1, "n0", 1, 1, 1, (2, 3), (1,), 2)), cores_per_rank=2
)


def test_a_process_that_knows_too_few_peers_is_misplaced() -> None:
    with pytest.raises(MisplacedRank, match="started 1 process.* 2 were planned"):
        assign_process(Seat.of(TWO, 0), ProcessIdentity(0, 1, source="srun"), "n0", 4)


def test_a_process_on_another_node_than_planned_is_misplaced() -> None:
    assert assign_process(Seat.of(TWO, 1), ProcessIdentity(1, 2), "n0.cluster.edu", 4).first_rank == 1
    with pytest.raises(MisplacedRank, match="was planned on n0, but is on n1"):
        assign_process(Seat.of(TWO, 1), ProcessIdentity(1, 2), "n1", 4)


def test_without_a_plan_a_process_takes_its_share_of_the_node() -> None:
    process = assign_process(None, ProcessIdentity(5, 8, 1, 2, "srun"), "n2", 8)
    assert (process.index, process.first_rank, process.cores) == (5, 5, (0, 1, 2, 3))[:2] + ((4, 5, 6, 7),)


@pytest.mark.parametrize(
    ("allowed", "indices", "chosen"),
    [
        ([4, 5, 6, 7], (2, 3), (6, 7)),
        ([4, 5], (2, 3), (4, 5)),
        ([4, 5, 6], (2, 3), (6, 4)),
        ([4, 5], (), (4, 5)),
        ([9], (0, 1), (9,)),
    ],
)
def test_cores_are_indices_into_what_the_process_may_use(
    allowed: list[int], indices: tuple[int, ...], chosen: tuple[int, ...]
) -> None:
    assert select_cores(allowed, indices) == chosen


def test_gpus_are_indices_into_what_is_visible_and_too_few_fail_the_run() -> None:
    assert select_gpus(["GPU-a", "GPU-b"], (1,)) == ("GPU-b",)
    assert select_gpus(["3"], (1,)) == ("3",)
    with pytest.raises(MisplacedRank, match="2 GPUs were planned for this process, 1 are visible"):
        select_gpus(["0"], (0, 1))
