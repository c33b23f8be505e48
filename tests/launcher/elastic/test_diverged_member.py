"""Ranks of an elastic run are compared in every world; one whose memory lost a bit is named by its number."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from saman.runs import checkpoints
from saman.runs.folder import RunFolder

pytestmark = [pytest.mark.ranks, pytest.mark.tensorflow, pytest.mark.slow, pytest.mark.timeout(600)]

CASES = Path(__file__).parents[2] / "trainers" / "training_cases.py"


def test_a_member_whose_weights_differ_is_named_and_no_checkpoint_holds_them(tmp_path: Path) -> None:
    (tmp_path / "training_cases.py").symlink_to(CASES)
    experiment = {
        "name": "diverging",
        "model": {"build": "training_cases:corrupted"},
        "data": {"source": "training_cases:images"},
        "train": {
            "global_batch_size": 24,
            "epochs": 6,
            "compare_ranks_every": 5,
            "checkpoint": {"every_epochs": 1, "keep": 50},
            "learning_rate": 0.1,
        },
        "resources": {"ranks_per_node": 3},
        "launch": {"elastic": {"min": 2, "max": 3}},
        "export": False,
    }
    file = tmp_path / "diverging.json"
    file.write_text(json.dumps(experiment))
    command = [sys.executable, "-m", "saman", "run", str(file), "--runs-dir", str(tmp_path / "runs")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stdout + done.stderr
    run = RunFolder.open(next((tmp_path / "runs" / "diverging").glob("2*")))
    (found,) = (event for event in run.events() if event.kind == "diverged")
    assert found.facts["ranks"] == [1]
    assert "the weights of rank 1 differ from those of the other ranks" in done.stdout + done.stderr
    newest = checkpoints.find(run.checkpoints)[0]
    assert newest.step < found.facts["step"]
