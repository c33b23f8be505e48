"""The variables of a rank's program."""

from __future__ import annotations

from saman.launcher.plan.placement import Placement, Process, Seat
from saman.launcher.rank.environment import horovod_variables, rank_variables
from saman.runs.ranks.identity import ProcessIdentity
from saman.runs.records.rendezvous import RendezvousAddress

TWO = Placement(
    (Process(0, "n0", 0, 0, 1, (0, 1), (0,), 2), Process(1, "n0", 1, 1, 1, (2, 3), (1,), 2)), cores_per_rank=2
)


def test_threads_match_the_cores_of_the_process() -> None:
    variables = rank_variables(TWO.processes[1], Seat.of(TWO, 1), ProcessIdentity(1, 2), cores=2)
    assert variables["TF_NUM_INTRAOP_THREADS"] == variables["OMP_NUM_THREADS"] == "2"
    assert (variables["SAMAN_FIRST_RANK"], variables["SAMAN_SIZE"], variables["SAMAN_CORES_PER_RANK"]) == (
        "1",
        "2",
        "2",
    )


def test_horovod_is_told_of_nodes_as_horovodrun_would() -> None:
    placement = Placement(tuple(Process(i, f"n{i // 2}", i % 2, i, 1) for i in range(4)), 1)
    server = RendezvousAddress("10.0.0.1", 7, token="t0")
    variables = horovod_variables(placement.processes[3], Seat.of(placement, 3), server)
    names = ("RANK", "SIZE", "LOCAL_RANK", "LOCAL_SIZE", "CROSS_RANK", "CROSS_SIZE")
    assert [variables[f"HOROVOD_{name}"] for name in names] == ["3", "4", "1", "2", "1", "2"]
    assert "HOROVOD_GLOO_IFACE" not in variables
