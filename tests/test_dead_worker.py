"""The death of a worker of pytest-xdist fails the test in which it died; all others run, once, and the run ends."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

import pytest

OTHER = "import pytest\n@pytest.mark.parametrize('n', range({count}))\ndef test_it(n): pass\n"
DEADLY = (
    "import os, pytest\n@pytest.mark.parametrize('n', range({count}))\ndef test_deadly(n):\n"
    "    if n == {at}: os.kill(os.getpid(), 9)\n"
)


@pytest.mark.parametrize(("count", "at"), [(10, 1), (10, 9), (1, 0)], ids=["in the middle", "last", "alone"])
def test_the_death_of_a_worker_fails_one_test_and_ends(tmp_path: Path, repository: Path, count: int, at: int) -> None:
    (tmp_path / "conftest.py").write_text("from file_scheduling import pytest_xdist_make_scheduler\n")
    (tmp_path / "test_deadly.py").write_text(DEADLY.format(count=count, at=at))
    for index in range(12):
        (tmp_path / f"test_other_{index}.py").write_text(OTHER.format(count=12 - index))
    report = tmp_path / "report.xml"
    command = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadfile", f"--junitxml={report}", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(repository / "tests"), "PYTEST_ADDOPTS": ""}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    cases = list(ElementTree.parse(report).iter("testcase"))
    failed = [case.get("name") for case in cases if case.find("failure") is not None or case.find("error") is not None]
    # The report names the test of a dead worker by its file alone.
    assert done.returncode == 1 and len(failed) == 1 and f"test_deadly[{at}]" in done.stdout, done.stdout
    ran = Counter((case.get("classname"), case.get("name")) for case in cases)
    assert len(ran) == sum(ran.values()) == count + 78, done.stdout
