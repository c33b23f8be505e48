"""Every process gets cores near its GPUs, as many as planned and none twice, or the placement stays as it was."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from tests.launcher.topology.test_topology import L40, LEVANTE

from saman.launcher.plan.placement import Placement, Process, Seat
from saman.launcher.rank import near
from saman.launcher.topology.model import Topology
from saman.launcher.topology.nvidia_smi import parse_topology
from saman.launcher.topology.pairing import nearest_adapter, pair

TWO = Topology({0: (0, 1, 2, 3), 1: (4, 5, 6, 7)}, {"0": 1, "1": 0}, {"mlx5_0": 0, "mlx5_1": 1})


def test_the_ranks_of_levante_run_beside_their_gpus() -> None:
    node = parse_topology(LEVANTE)
    allowed = sorted(core for cores in node.cores.values() for core in cores)
    found = pair(node, allowed, [(8, [str(gpu)]) for gpu in range(4)])
    assert found is not None
    assert [each.cores[0] for each in found] == [48, 16, 112, 80]
    assert [each.adapter for each in found][1:3] == ["mlx5_0", "mlx5_1"]


def test_gpus_that_share_a_domain_share_its_adapters_in_turn() -> None:
    node = parse_topology(L40)
    allowed = [*range(0, 16), *range(128, 144)]
    found = pair(node, allowed, [(8, [str(gpu)]) for gpu in range(4)])
    assert found is not None
    assert [(each.cores[0], each.adapter) for each in found][2:] == [(128, "mlx5_0"), (136, "mlx5_1")]


def test_processes_without_gpus_do_not_straddle_domains() -> None:
    found = pair(TWO, range(8), [(3, ()), (3, ())])
    assert found is not None and [each.cores for each in found] == [(0, 1, 2), (4, 5, 6)]
    assert [each.adapter for each in found] == ["mlx5_0", "mlx5_1"]


def test_a_process_whose_domain_is_full_takes_the_rest_elsewhere() -> None:
    found = pair(TWO, range(8), [(3, ["0"]), (3, ["0"])])
    assert found is not None and [each.cores for each in found] == [(4, 5, 6), (0, 1, 7)]


def test_nothing_changes_where_nothing_is_known_or_cores_are_shared() -> None:
    assert pair(Topology({}), range(4), [(2, ())]) is None
    assert pair(Topology({0: (0, 1, 2, 3)}), range(4), [(2, ())]) is None
    assert pair(TWO, [0, 1], [(1, ())]) is None  # all in one domain
    assert pair(TWO, range(8), [(5, ()), (5, ())]) is None
    assert nearest_adapter(Topology({0: (0,)}), ["0"], [0]) is None


CORES = st.sets(st.integers(0, 15), min_size=2, max_size=16).map(sorted)
WANTED = st.lists(st.tuples(st.integers(1, 4), st.lists(st.sampled_from("0123"), max_size=1)), min_size=1, max_size=5)


@given(CORES, WANTED, st.dictionaries(st.sampled_from("0123"), st.integers(0, 4)))
def test_every_process_gets_its_number_of_allowed_cores_and_none_twice(
    allowed: Sequence[int], wanted: list[tuple[int, list[str]]], gpus: dict[str, int]
) -> None:
    node = Topology({domain: tuple(range(4 * domain, 4 * domain + 4)) for domain in range(3)}, gpus)
    found = pair(node, allowed, wanted)
    if found is None:
        return
    assert [len(each.cores) for each in found] == [count for count, _ in wanted]
    taken = [core for each in found for core in each.cores]
    assert len(set(taken)) == len(taken) and set(taken) <= set(allowed)


def test_every_wrapper_of_a_node_finds_its_own_part_of_the_same_pairing(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(near, "this_topology", lambda visible: TWO)
    processes = tuple(
        Process(index, "n1", index, index, 1, cores=(2 * index, 2 * index + 1), gpus=(index,)) for index in range(2)
    )
    placement = Placement(processes, 2)
    environ = {"CUDA_VISIBLE_DEVICES": "0,1", "SLURM_JOB_ID": "7"}
    found = [near.paired(Seat.of(placement, at), range(8), environ) for at in range(len(processes))]
    assert [each.cores for each in found if each] == [(4, 5), (0, 1)]
    assert near.paired(Seat.of(placement, 0), range(2), environ) is None  # pinned already
    assert near.paired(None, range(8), environ) is None
    # outside a job the run has locked its first cores only: all of them in one domain here
    assert near.paired(Seat.of(placement, 0), range(8), {"CUDA_VISIBLE_DEVICES": "0,1"}) is None
