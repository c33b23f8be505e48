"""Horovod's Keras interface on Keras 3, as its documentation teaches it: two ranks against the whole batch on one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ranks, pytest.mark.tensorflow, pytest.mark.slow]

SCRIPT = Path(__file__).parent / "scripts" / "horovod_keras.py"
CHECKS = re.findall(r"^def check_(\w+)\(", SCRIPT.read_text("utf-8"), re.MULTILINE)


def start(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "saman", "run", "-np", "2", "--all-ranks", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280)


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What two ranks print on all checks, started once."""
    done = start(tmp_path_factory.mktemp("keras"), "--", "python", str(SCRIPT))
    return done.stdout + done.stderr


@pytest.mark.parametrize("check", CHECKS)
def test_the_keras_interface_on_two_ranks(printed: str, check: str) -> None:
    said = re.findall(rf"rank (\d) check {check}: (.*)", printed)
    assert sorted(said) == [("0", "holds"), ("1", "holds")], said or printed[-3000:]
