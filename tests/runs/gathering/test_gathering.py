"""A node's ranks are gathered into one report, which readers join with the files of single ranks."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from saman.runs import locks
from saman.runs.gathering import node_folder
from saman.runs.gathering.gathering import GatheredNode, NodeGathering, round_seconds
from saman.runs.gathering.leftovers import gather_leftovers
from saman.runs.gathering.node_folder import duty_lock, find_node_folders, make_node_folder, remove_stale_folders
from saman.runs.paths.attempt import Attempt
from saman.runs.paths.run import RunPaths
from saman.runs.ranks.attempt_ranks import AttemptRanks, read_records, signs_of_life
from saman.runs.ranks.heartbeats import Beat, write_beat
from saman.runs.ranks.records import RankRecord


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place for folders of nodes."""
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr(node_folder, "_PLACES", (place,))
    return place


@pytest.fixture
def run(tmp_path: Path) -> RunPaths:
    made = RunPaths(tmp_path / "runs" / "x" / "1")
    made.attempt(1).make_folders()
    return made


def _record(rank: int, node: str = "n0", **end: object) -> RankRecord:
    return RankRecord(rank, rank, 1, node, node, (0,), (), 1000 + rank).ending(**end)


def _node(run: RunPaths, index: int, ranks: range) -> GatheredNode:
    own = make_node_folder(run, 1, f"n{index}")
    assert own is not None
    for rank in ranks:
        _record(rank, f"n{index}").write(own.rank_record(rank))
        write_beat(own.heartbeat(rank), Beat("train", step=rank, alive=1.0, time=1.0))
    return GatheredNode(own, run.attempt(1), index, f"n{index}", processes=len(ranks))


def test_readers_see_every_rank_of_every_node(run: RunPaths) -> None:
    for index in range(3):
        NodeGathering(_node(run, index, range(4 * index, 4 * index + 4))).gather()
    records = read_records(run.attempt(1))
    assert [(rank, record.node) for rank, record in records.items()] == [(rank, f"n{rank // 4}") for rank in range(12)]
    seen = AttemptRanks(run.attempt(1))
    seen.look()
    assert {rank: beat.step for rank, beat in seen.beats.items()} == {rank: rank for rank in range(12)}
    assert set(signs_of_life(run.attempt(1))) == set(range(12))
    names = sorted(path.name for path in run.attempt(1).nodes_folder.iterdir())
    assert names == ["00000.state", "00001.state", "00002.state"]


def test_files_of_single_ranks_are_read_as_before(run: RunPaths) -> None:
    attempt = run.attempt(1)
    _record(5).write(attempt.rank_record(5))
    write_beat(attempt.heartbeat(5), Beat("train", step=7))
    seen = AttemptRanks(attempt)
    seen.look()
    assert (list(read_records(attempt)), seen.beats[5].step, list(signs_of_life(attempt))) == ([5], 7, [5])


def test_a_reader_that_keeps_reports_open_follows_them(run: RunPaths) -> None:
    node = _node(run, 0, range(2))
    gathering, seen = NodeGathering(node), AttemptRanks(run.attempt(1), nodes=1, keep_open=True)
    seen.look()
    assert seen.beats == {}
    for step in range(3):
        write_beat(node.own.heartbeat(1), Beat("train", step=step))
        gathering.gather()
        seen.look()
        assert seen.beats[1].step == step
    seen.close()


def test_reports_beyond_the_limit_of_open_files_are_read_in_turn(
    run: RunPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saman.runs.ranks.attempt_ranks._allow_descriptors", lambda wanted: 2)
    for index in range(30):
        NodeGathering(_node(run, index, range(index, index + 1))).gather()
    seen = AttemptRanks(run.attempt(1), nodes=30, keep_open=True)
    counts = []
    for _ in range(5):
        seen.look()
        counts.append(len(seen.beats))
    assert counts[0] <= 10 and counts[-1] == 30
    seen.close()


def test_what_dead_processes_left_is_gathered_and_removed(run: RunPaths) -> None:
    node = _node(run, 0, range(2))
    _record(1, code=3, last_lines=("ValueError: x",)).write(node.own.rank_record(1))
    gather_leftovers(run, 1, {"n0": 0, "n1": 1})
    assert read_records(run.attempt(1))[1].last_lines == ("ValueError: x",)
    assert find_node_folders(run, "n0") == [] and not node.own.path.exists()


def test_a_folder_that_is_still_gathered_is_left_alone(run: RunPaths) -> None:
    node = _node(run, 0, range(1))
    with locks.hold(duty_lock(node.own), this_machine=True):
        gather_leftovers(run, 1, {"n0": 0}, wait_seconds=0.0)
    assert node.own.rank_folder.is_dir() and read_records(run.attempt(1)) == {}


def test_the_folder_of_a_node_is_for_its_user_alone(run: RunPaths, temporary: Path) -> None:
    assert make_node_folder(run, 1, "n0") is not None
    (base,) = temporary.iterdir()
    assert stat.S_IMODE(base.stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["APPTAINER_CONTAINER", "SINGULARITY_NAME"])
def test_inside_a_container_nobody_gathers_because_processes_may_not_see_each_other(
    run: RunPaths, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "image.sif")
    assert make_node_folder(run, 1, "n0") is None


@pytest.mark.parametrize("plant", ["link", "file"])
def test_a_planted_folder_is_not_used(run: RunPaths, temporary: Path, tmp_path: Path, plant: str) -> None:
    planted = temporary / f"saman-nodes-{os.geteuid()}"
    (tmp_path / "elsewhere").mkdir()
    planted.symlink_to(tmp_path / "elsewhere") if plant == "link" else planted.touch()
    assert make_node_folder(run, 1, "n0") is None
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_folders_that_nobody_came_back_for_are_removed_after_a_week(run: RunPaths) -> None:
    old, new = make_node_folder(run, 1, "n0"), make_node_folder(run, 2, "n0")
    assert old is not None and new is not None
    for folder in (old.path, old.rank_folder, old.telemetry_folder):
        os.utime(folder, (0, time.time() - 8 * 86400))
    remove_stale_folders(time.time())
    assert find_node_folders(run, "n0") == [new]


def test_a_damaged_report_is_left_out(run: RunPaths) -> None:
    run.attempt(1).node_state(0).write_bytes(b"\0" * 5000)
    NodeGathering(_node(run, 1, range(1))).gather()
    assert list(read_records(run.attempt(1))) == [0]


def test_rounds_grow_with_the_nodes_and_stay_below_the_time_to_notice_a_death() -> None:
    waits = [round_seconds(nodes) for nodes in (1, 64, 128, 1000, 10_000)]
    assert waits == sorted(waits) and waits[0] <= 1.0 and waits[-1] > waits[0]
    assert waits[-1] + 5.0 + 1.0 <= 10.0  # with the interval of signs of life, and of the supervisor's looks


def test_the_files_of_an_attempt_are_those_of_nodes() -> None:
    attempt = Attempt(Path("attempts/1"))
    files = {attempt.node_state(3), attempt.node_telemetry(3), attempt.node_log(3), attempt.older_node_log(3)}
    assert len(files) == 4 and {file.parent for file in files} == {attempt.nodes_folder}
