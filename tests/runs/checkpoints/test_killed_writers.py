"""kill -9 in the middle of a write beside the training loses the checkpoint that is written, and no other."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parents[2] / "src"
KILLS = 20


def test_a_kill_at_any_point_of_a_write_loses_nothing_older(tmp_path: Path) -> None:
    command = [sys.executable, str(HERE / "killed_writers.py"), str(tmp_path), str(KILLS)]
    done = subprocess.run(command, env={"PYTHONPATH": str(SOURCE)}, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-3000:]
    kills = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(kills) == KILLS
    for kill in kills:
        # All of the new checkpoint or nothing of it: a torn write leaves what was there.
        assert kill["after"] in ((kill["before"],) if kill["torn"] else (kill["before"], kill["step"])), kill
    assert sum(kill["torn"] for kill in kills) >= KILLS / 2  # the kills did hit writes, or the test shows nothing
