"""The names of environment variables are spelled in one module, and what people set reaches every rank."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from saman.launcher.plan.environment import clean_environment, forwarded
from saman.runs import variables

ROOT = Path(__file__).resolve().parents[2]
KNOWN = {value for name, value in vars(variables).items() if name.isupper() and isinstance(value, str)}


def spelled(file: Path) -> Iterator[str]:
    """Where a Python file spells a variable, in a string or as a keyword; docstrings may."""
    tree = ast.parse(file.read_text("utf-8"))
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        text = node.value if isinstance(node, ast.Constant) and id(node) not in prose else getattr(node, "arg", None)
        if isinstance(text, str) and "SAMAN_" in text:
            yield f"{file.relative_to(ROOT)}: {text}"


def test_no_other_module_spells_a_variable() -> None:
    rooms = [path.resolve() for path in (ROOT / "src" / "saman").iterdir() if path.is_symlink()]
    files = [file for room in rooms for file in room.rglob("*.py") if file != ROOT / "runs" / "variables.py"]
    assert [place for file in files for place in spelled(file)] == []


def test_scripts_use_known_variables_only() -> None:
    names = {*KNOWN, *re.findall(r"^(SAMAN_MINICLUSTER_\w+)=", (ROOT / "slurm/minicluster.sh").read_text(), re.M)}
    for file in (ROOT / "slurm/submission/job.sh.j2", ROOT / "slurm/minicluster.sh"):
        for name in re.findall(r"_?SAMAN_[A-Z_]+", file.read_text("utf-8")):
            assert name in names or name.startswith("SAMAN_MINICLUSTER_"), f"{file.name}: {name}"


def test_documents_use_known_variables_only() -> None:
    tests = {"SAMAN_CROWD_SECONDS", "SAMAN_FASHION_MNIST", "SAMAN_HOROVOD_SOURCE", "SAMAN_REQUIRE", "SAMAN_TEST_DATA"}
    tests.add(variables.nodes_of("data"))  # of the component in the example
    for file in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        found = set(re.findall(r"SAMAN_[A-Z_]*[A-Z]", file.read_text("utf-8")))
        assert found <= KNOWN | tests, f"{file.name}: {found - KNOWN - tests}"


def test_every_variable_has_one_name() -> None:
    values = [value for name, value in vars(variables).items() if name.isupper() and isinstance(value, str)]
    assert len(values) == len(set(values))


def test_what_people_set_holds_for_every_rank_and_what_a_run_set_does_not() -> None:
    around = dict.fromkeys((*variables.SETTINGS, variables.RUN, variables.PROCESS), "x")
    assert set(clean_environment(around, Path("/"))) == set(variables.SETTINGS) == set(forwarded(around))
