"""A member of a real elastic run is killed; ``make elastic-kills`` is the long campaign."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from saman.runs.elastic.world_events import WorldFormed
from saman.runs.folder import RunFolder

pytestmark = [pytest.mark.ranks, pytest.mark.tensorflow, pytest.mark.slow, pytest.mark.timeout(600)]

DRIVER = Path(__file__).parents[3] / "benchmarks" / "elastic" / "kills.py"


def test_a_run_that_shrinks_and_grows_has_the_weights_of_an_undisturbed_one(tmp_path: Path) -> None:
    command = [sys.executable, str(DRIVER), "--kills", "1", "--ranks", "2", "--min", "1", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, done.stdout + done.stderr  # at most 1e-10 apart in float64
    run = RunFolder.open(next((tmp_path / "runs" / "kills").glob("2*")))
    assert len(run.attempts()) == 1
    worlds = (world for event in run.events() if (world := WorldFormed.from_event(event)) is not None)
    assert [world.size for world in worlds if "stepped" in world.seconds] == [2, 1, 2]
