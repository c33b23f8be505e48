"""A kill at any instant leaves the old state or the new state: every operation killed before each of its file calls."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

_HERE = Path(__file__).parents[1]
_SCENARIOS = ("publish_first", "publish_next", "promote", "rollback", "approve", "retire", "export", "prune")


@pytest.mark.parametrize("scenario", _SCENARIOS)
def test_a_kill_at_every_step_leaves_old_or_new(tmp_path: Path, scenario: str) -> None:
    command = [sys.executable, str(_HERE / "kill_driver.py"), scenario, str(tmp_path / "x")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(_HERE), *sys.path])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["broken"] == {}
    assert report["calls"] == sum(report["left"].values()) > 5
    assert report["left"]["old"] > 0 and report["left"]["new"] > 0  # kills fell on both sides of the change
