"""Ranks of an elastic run are killed while it goes on: its final weights are those of the undisturbed run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from saman.runs.elastic.world_events import WorldFormed
from saman.runs.events import State
from saman.runs.folder import RunFolder
from saman.runs.ranks.rank_events import RankExited

ROOT = Path(__file__).parents[3]
KILLS = ROOT / "benchmarks" / "elastic" / "kills.py"

pytestmark = [pytest.mark.ranks, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, RunFolder]:
    """Two kills of an elastic run of three ranks, and what the driver printed."""
    pytest.importorskip("horovod.tensorflow")
    out = tmp_path_factory.mktemp("kills")
    words = ["--kills", "2", "--ranks", "3", "--min", "1", "--seed", "4", "--out", str(out)]
    ended = subprocess.run([sys.executable, str(KILLS), *words], text=True, capture_output=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout, RunFolder.open(next((out / "runs" / "kills").glob("2*")))


def test_the_weights_equal_those_of_the_undisturbed_run(campaign: tuple[str, RunFolder]) -> None:
    found = re.search(r"largest relative difference of a tensor: (\S+)", campaign[0])
    assert found is not None
    assert float(found[1]) <= 1e-10


def test_survivors_keep_their_processes_and_lose_at_most_one_step(campaign: tuple[str, RunFolder]) -> None:
    worlds = [world for event in campaign[1].events() if (world := WorldFormed.from_event(event)) is not None]
    losses = [world for world in worlds if world.lost]
    assert len(losses) == 2
    assert [world.step for world in worlds] == sorted(world.step for world in worlds)  # nothing is taken back
    assert all(world.step > 0 for world in worlds[1:])
    exits = [exited for event in campaign[1].events() if (exited := RankExited.from_event(event)) is not None]
    assert sorted(exited.signal for exited in exits if exited.signal is not None) == [9, 9]
    assert len([event for event in campaign[1].events() if event.kind == "resumed"]) == 0


def test_the_run_is_back_to_its_full_size_and_stops_on_request(campaign: tuple[str, RunFolder]) -> None:
    worlds = [world for event in campaign[1].events() if (world := WorldFormed.from_event(event)) is not None]
    assert worlds[-1].size == 3
    assert campaign[1].state is State.PREEMPTED
