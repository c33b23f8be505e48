"""One wrapper of a node gathers for all; when it is killed the next goes on, and who ends is gathered before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from saman.launcher.rank import gatherer as gatherer_module
from saman.launcher.rank.gatherer import NodeGatherer
from saman.runs import locks
from saman.runs.gathering import node_folder
from saman.runs.gathering.gathering import GatheredNode
from saman.runs.gathering.node_folder import duty_lock, make_node_folder
from saman.runs.paths.attempt import Attempt
from saman.runs.paths.run import RunPaths
from saman.runs.ranks.attempt_ranks import read_record
from saman.runs.ranks.node_log import RankLogFollower
from saman.runs.ranks.records import RankRecord

GATHER = """
import sys, time
from pathlib import Path
from saman.launcher.rank.gatherer import NodeGatherer
from saman.runs.gathering.gathering import GatheredNode
from saman.runs.paths.attempt import Attempt
NodeGatherer(GatheredNode(Attempt(Path(sys.argv[1])), Attempt(Path(sys.argv[2])), 0, "n0", 2), 0.2)
time.sleep(60)
"""


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GatheredNode]:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(node_folder, "_PLACES", (tmp_path / "tmp",))
    monkeypatch.setattr(node_folder, "in_container", lambda _: False)
    run = RunPaths(tmp_path / "runs" / "x" / "1")
    run.attempt(1).make_folders()
    own = make_node_folder(run, 1, "n0")
    assert own is not None
    yield GatheredNode(own, run.attempt(1), 0, "n0", processes=2)
    node_folder.remove_node_folder(own)  # ends the threads


def _until(condition: Callable[[], object], seconds: float = 20.0) -> float:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "waited in vain"
        time.sleep(0.02)
    return time.monotonic() - began


def _record(own: Attempt, rank: int, **end: object) -> None:
    RankRecord(rank, rank, 1, "n0", "n0", (0,), (), 1).ending(**end).write(own.rank_record(rank))


def test_another_process_goes_on_when_the_gatherer_is_killed(node: GatheredNode) -> None:
    command = [sys.executable, "-c", GATHER, str(node.own.path), str(node.shared.path)]
    both = [subprocess.Popen(command) for _ in range(2)]
    try:
        _record(node.own, 0)
        _until(lambda: read_record(node.shared, 0) is not None)
        holder = locks.holder_of(duty_lock(node.own))
        assert holder is not None and holder.pid in [process.pid for process in both]
        os.kill(holder.pid, signal.SIGKILL)
        _record(node.own, 1, code=1, last_lines=("ValueError: last words",))
        node.own.log(1).write_text("ValueError: last words\n")
        _until(lambda: read_record(node.shared, 1) is not None)
        _until(lambda: "".join(RankLogFollower(node.shared.node_log(0), 1).pieces()) == "ValueError: last words\n")
    finally:
        for process in both:
            process.kill()
            process.wait()


def test_who_ends_is_gathered_at_once_and_the_last_removes_the_folder(node: GatheredNode) -> None:
    gatherer = NodeGatherer(node, every_seconds=600.0)
    _record(node.own, 0)
    _record(node.own, 1)
    _until(lambda: locks.holder_of(duty_lock(node.own)) is not None)
    _record(node.own, 0, code=3, last_lines=("why",))
    assert gatherer.flush()
    found = read_record(node.shared, 0)
    assert found is not None and found.last_lines == ("why",) and node.own.rank_folder.is_dir()
    _record(node.own, 1, code=0)
    assert gatherer.flush()
    assert read_record(node.shared, 1) is not None
    _until(lambda: not node.own.path.exists())


def test_a_run_folder_that_cannot_be_written_is_a_problem_once_it_lasts(
    node: GatheredNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gatherer_module, "UNWRITABLE_SECONDS", 0.2)
    node.shared.node_state(0).mkdir()
    gatherer = NodeGatherer(node, every_seconds=0.1)
    _until(lambda: gatherer.problem is not None)
    node.shared.node_state(0).rmdir()
    _until(lambda: gatherer.problem is None)
