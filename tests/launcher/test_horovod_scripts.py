"""Unmodified Horovod scripts of the kinds that its documentation teaches, through ``saman run -np 2 --``."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ranks, pytest.mark.tensorflow, pytest.mark.slow]

SCRIPTS = Path(__file__).parent / "scripts"


def keras_2() -> bool:
    """Whether TensorFlow here brings Keras 2."""
    for name in ("tensorflow-cpu", "tensorflow"):
        try:
            return tuple(map(int, version(name).split(".")[:2])) < (2, 16)
        except ModuleNotFoundError:
            continue
    return False


# Horovod's Keras callbacks do not run on TensorFlow 2.16 and later, with or without Keras 2.
CASES = (
    [("core.py", []), ("tape.py", []), ("fit.py", [])]
    if keras_2()
    else [("core.py", []), ("core.py", ["launch.with=processes"]), ("tape.py", ["--legacy-keras"])]
)


@pytest.mark.parametrize(
    ("script", "options"), CASES, ids=lambda value: value if isinstance(value, str) else " ".join(value)
)
def test_a_script_trains_on_two_ranks_that_stay_equal(tmp_path: Path, script: str, options: list[str]) -> None:
    start = [
        sys.executable,
        "-m",
        "saman",
        "run",
        "-np",
        "2",
        "--all-ranks",
        *options,
        "--",
        "python",
        str(SCRIPTS / script),
    ]
    done = subprocess.run(start, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    said = re.findall(r"rank (\d) of 2 loss (\d\.\d+) equal True", done.stdout)
    assert sorted(rank for rank, _ in said) == ["0", "1"], done.stdout
    assert all(float(loss) < 2.0 for _, loss in said)  # guessing among ten digits costs 2.3
