"""Placement: every rank has a place, cores and GPUs, and what cannot be is refused with numbers."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saman.configs.errors import EnvironmentLack, UserError
from saman.configs.schemas.experiment import Resources
from saman.launcher.node.machine import Node
from saman.launcher.plan.place import place
from saman.launcher.plan.placement import Placement

GIB = 2**30


def _nodes(count: int, cores: int = 8, gpus: int = 0, memory: int | None = None) -> list[Node]:
    return [Node(f"n{index}", cores, gpus, memory) for index in range(count)]


def _place(nodes: list[Node], devices: int = 1, **resources: object) -> Placement:
    return place(Resources.model_validate({"nodes": len(nodes), **resources}), devices, nodes)


@given(
    nodes=st.integers(1, 5),
    processes=st.integers(1, 6),
    devices=st.integers(1, 4),
    cores=st.integers(1, 9),
    cpus=st.one_of(st.just("auto"), st.integers(1, 12)),
    gpus=st.integers(0, 2),
)
def test_every_rank_is_placed_once_with_equal_cores_and_gpus_of_its_own(
    nodes: int, processes: int, devices: int, cores: int, cpus: object, gpus: int
) -> None:
    ranks = processes * devices
    here = _nodes(nodes, cores, gpus * ranks)
    plan = _place(here, devices, ranks_per_node=ranks, cpus_per_rank=cpus, gpus_per_rank=gpus)
    assert [rank for process in plan.processes for rank in process.ranks] == list(range(nodes * ranks))
    assert plan.nodes == tuple(node.name for node in here)
    for node in here:
        mine = plan.on(node.name)
        assert [process.local_index for process in mine] == list(range(processes))
        assert sorted(gpu for process in mine for gpu in process.gpus) == list(range(gpus * ranks))
        used = [core for process in mine for core in process.cores]
        assert set(used) <= set(range(cores))
        if not plan.cores_shared:
            assert len(used) == len(set(used)) == ranks * plan.cores_per_rank
        for process in mine:
            assert process.threads == len(process.cores) == len(set(process.cores))
            assert process.threads == min(cores, devices * plan.cores_per_rank)
    assert plan.cores_shared == (plan.cores_per_rank * ranks > cores)
    assert Placement.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_auto_cores_are_the_allowed_ones_divided_by_the_ranks_of_a_node() -> None:
    plan = _place(_nodes(1, cores=8), ranks_per_node=3)
    assert plan.cores_per_rank == 2
    assert [process.cores for process in plan.processes] == [(0, 1), (2, 3), (4, 5)]
    assert plan.notes == (
        "auto: 8 cores ÷ 3 ranks per node = 2 per rank; 2 idle, because every rank gets the same number",
    )


def test_more_ranks_than_cores_share_them_in_turn_and_it_is_said() -> None:
    plan = _place(_nodes(1, cores=2), ranks_per_node=5)
    assert [process.cores for process in plan.processes] == [(0,), (1,), (0,), (1,), (0,)]
    assert plan.cores_shared
    assert plan.notes == ("5 ranks × 1 core = 5 on the 2 cores of n0: cores are shared, so ranks wait for each other",)


def test_the_smallest_node_decides_how_many_cores_every_rank_gets() -> None:
    plan = _place([Node("big", 16), Node("small", 4)], ranks_per_node=2)
    assert {process.threads for process in plan.processes} == {2}
    assert any("small with 4 cores" in note for note in plan.notes)


def test_several_devices_of_a_process_share_its_cores_and_gpus() -> None:
    plan = _place(_nodes(2, cores=8, gpus=4), devices=2, ranks_per_node=4, gpus_per_rank=1)
    assert [(p.node, p.first_rank, p.cores, p.gpus) for p in plan.processes] == [
        ("n0", 0, (0, 1, 2, 3), (0, 1)),
        ("n0", 2, (4, 5, 6, 7), (2, 3)),
        ("n1", 4, (0, 1, 2, 3), (0, 1)),
        ("n1", 6, (4, 5, 6, 7), (2, 3)),
    ]


def test_nothing_is_pinned_where_a_quota_limits_the_cores() -> None:
    plan = _place([Node("box", 2, pinnable=False)], ranks_per_node=2)
    assert [(p.cores, p.threads) for p in plan.processes] == [((), 1), ((), 1)]


def test_everything_that_a_node_lacks_is_said_with_numbers_at_once() -> None:
    with pytest.raises(EnvironmentLack) as caught:
        _place(_nodes(1, gpus=3, memory=8 * GIB), ranks_per_node=2, gpus_per_rank=2, memory_per_rank="6G")
    text = str(caught.value)
    assert "2 ranks × 2 = 4 GPUs requested on n0, which has 3" in text
    assert "-np 1" in text
    assert "2 ranks × 6G of memory requested on n0, which has 8.0G" in text


def test_more_nodes_than_there_are_is_refused() -> None:
    with pytest.raises(EnvironmentLack, match="4 nodes requested, 2 are available"):
        place(Resources(nodes=4), 1, _nodes(2))


def test_ranks_that_do_not_divide_into_processes_are_refused() -> None:
    with pytest.raises(UserError, match="3 ranks per node do not divide into processes of 2 devices"):
        _place(_nodes(1), devices=2, ranks_per_node=3)


def test_the_record_of_ten_thousand_nodes_is_a_few_lines_and_reads_back_the_same(tmp_path: Path) -> None:
    nodes = [Node(f"node{index:05d}", 8 if index < 9000 else 16) for index in range(10_000)]
    plan = _place(nodes, ranks_per_node=4, cpus_per_rank=2)
    file = tmp_path / "placement.json"
    plan.write(file)
    assert file.stat().st_size < 4000
    assert Placement.read(file) == plan


def test_a_placement_that_an_earlier_saman_wrote_is_still_read(tmp_path: Path) -> None:
    plan = _place(_nodes(2), ranks_per_node=2)
    file = tmp_path / "placement.json"
    file.write_text(json.dumps({"schema": 1, **asdict(plan)}))
    assert Placement.read(file) == plan


def test_a_placement_in_another_order_reads_back_the_same(tmp_path: Path) -> None:
    plan = _place(_nodes(2), ranks_per_node=2)
    turned = replace(plan, processes=plan.processes[::-1])
    turned.write(tmp_path / "placement.json")
    assert Placement.read(tmp_path / "placement.json") == turned


def test_ranks_without_binding_have_their_cores_counted_and_are_pinned_to_none() -> None:
    plan = _place(_nodes(1, cores=8), ranks_per_node=2, binding="none")
    assert [(process.cores, process.threads) for process in plan.processes] == [((), 4), ((), 4)]


def test_warm_spares_stand_after_the_ranks_unpinned_on_their_node_or_as_ranks_on_spare_nodes() -> None:
    asked = Resources.model_validate({"ranks_per_node": 2})
    here = place(asked, 1, _nodes(1, cores=2), warm_spares=1)
    assert [process.cores for process in here.processes] == [(0,), (1,), ()]
    assert [(process.index, process.first_rank, process.threads) for process in here.processes][2] == (2, 2, 1)
    apart = place(asked, 1, _nodes(2, cores=2), warm_spares=1)
    assert [(process.node, process.cores) for process in apart.processes] == [("n0", (0,)), ("n0", (1,)), ("n1", (0,))]
    for plan in (here, apart):
        assert Placement.from_json(json.loads(json.dumps(plan.to_json()))) == plan
