"""Holds that CI cannot leave a test out silently: what is required and missing fails instead of being skipped."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import pytest

@pytest.mark.browser
def test_marked(): pass

@pytest.mark.data
def test_skips_by_itself(fashion_mnist_folder): pytest.skip("no reason")

def test_unmarked(): pytest.skip("only for those who are not root")
"""


@pytest.mark.parametrize(
    ("require", "summary"),
    [
        ({}, "3 skipped"),
        ({"SAMAN_REQUIRE": "browser"}, "2 skipped, 1 error"),
        ({"SAMAN_REQUIRE": "browser,data"}, "1 skipped, 2 errors"),
        ({"CI": "true"}, "1 skipped, 2 errors"),
    ],
)
def test_what_is_required_fails_where_it_would_be_skipped(
    repository: Path, tmp_path: Path, require: dict[str, str], summary: str
) -> None:
    done = in_a_bare_machine(repository, tmp_path, require)
    assert summary in done.stdout, done.stdout + done.stderr


def test_a_misspelt_requirement_is_refused(repository: Path, tmp_path: Path) -> None:
    done = in_a_bare_machine(repository, tmp_path, {"SAMAN_REQUIRE": "slrum"})
    assert done.returncode == 4
    assert "slrum" in done.stderr


def in_a_bare_machine(repository: Path, folder: Path, require: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run three small tests under our conftest where there is neither a browser nor the image sample."""
    for name in ("tests/conftest.py", "tests/file_scheduling.py", "pyproject.toml"):
        shutil.copy(repository / name, folder)
    (folder / "tests").mkdir()
    (folder / "tests" / "test_small.py").write_text(TESTS)
    left_out = ("CI", "SAMAN_REQUIRE", "SAMAN_FASHION_MNIST", "PYTEST_ADDOPTS")
    clean = {name: value for name, value in os.environ.items() if name not in left_out}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests"]
    environment = {**clean, "PATH": str(folder), **require}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
