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


# fit.py calls compile() with an argument that Keras 3 has removed.
CASES = [
    ("core.py", []),
    ("core.py", ["launch.with=processes"]),
    ("tape.py", []),
    ("fit.py", [] if keras_2() else ["--legacy-keras"]),
]


def run_on_two_ranks(folder: Path, script: str, options: list[str]) -> subprocess.CompletedProcess[str]:
    start = [sys.executable, "-m", "saman", "run", "-np", "2", "--all-ranks", *options]
    command = [*start, "--", "python", str(SCRIPTS / script)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)


@pytest.mark.parametrize(
    ("script", "options"), CASES, ids=lambda value: value if isinstance(value, str) else " ".join(value)
)
def test_a_script_trains_on_two_ranks_that_stay_equal(tmp_path: Path, script: str, options: list[str]) -> None:
    done = run_on_two_ranks(tmp_path, script, options)
    assert done.returncode == 0, done.stdout + done.stderr
    said = re.findall(r"rank (\d) of 2 loss (\d\.\d+) equal True", done.stdout)
    assert sorted(rank for rank, _ in said) == ["0", "1"], done.stdout
    assert all(float(loss) < 2.0 for _, loss in said)  # guessing among ten digits costs 2.3


def test_a_script_that_calls_what_keras_3_has_removed_ends_with_the_option_that_runs_it(tmp_path: Path) -> None:
    done = run_on_two_ranks(tmp_path, "fit.py", [])
    assert done.returncode == 1
    told = [line for line in (done.stdout + done.stderr).splitlines() if "--legacy-keras" in line]
    assert any("rank 0" in line and "experimental_run_tf_function" in line for line in told), done.stdout + done.stderr
