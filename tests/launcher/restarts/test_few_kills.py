"""A short campaign of SIGKILLs on a real training; ``make kills`` is the long one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ranks, pytest.mark.tensorflow, pytest.mark.slow, pytest.mark.timeout(900)]

DRIVER = Path(__file__).with_name("kill_driver.py")


def test_a_training_survives_kills_of_a_rank_and_of_saman_with_the_same_weights(tmp_path: Path) -> None:
    options = ["--kills", "2", "--in-turn", "--targets", "rank,saman", "--ranks", "1", "--strategy", "single"]
    command = [sys.executable, str(DRIVER), str(tmp_path), *options, "--steps", "600", "--checkpoint-every", "50"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=850, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 kills: 1 × rank, 1 × saman" in done.stdout and "completed" in done.stdout, done.stdout
