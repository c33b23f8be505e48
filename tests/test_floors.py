"""Holds the floors of the house: a room imports only from those below it, and only ranks' code imports TensorFlow."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# room -> the rooms it may import; docs/design.md draws the same picture
BELOW = {
    "configs": set(),
    "pipeline": {"configs"},
    "launcher": {"configs"},
    "trainers": {"launcher", "pipeline", "configs"},
    "registry": {"launcher", "configs"},
    "scaling": {"launcher", "pipeline", "configs"},
    "slurm": {"launcher", "configs"},
    "cli": {"slurm", "scaling", "registry", "launcher", "pipeline", "configs"},
}
ONLY_TRAINERS = {"tensorflow", "keras", "tf_keras", "horovod", "mpi4py"}
# The two lowest rooms do with pydantic, PyYAML and numpy.
NOT_AT_THE_BOTTOM = {"polars", "altair", "scipy", "rich", "typer"}


def imports(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """Line and absolute name of every import in ``tree``, those inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            yield node.lineno, name
            if name in ("saman", "") or node.level:
                yield from ((node.lineno, f"{name}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and _name(node.func) in ("import_module", "__import__"):
            yield from ((node.lineno, str(a.value)) for a in node.args[:1] if isinstance(a, ast.Constant))


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def broken_rules(room: str, text: str, where: str) -> list[str]:
    """Every import in the file ``where`` of ``room`` that its floor does not allow."""
    found = []
    package = ".".join(["saman", *Path(where).parent.parts])
    for line, name in imports(ast.parse(text), package):
        first, *rest = name.split(".")
        if first == "saman" and rest and rest[0] in BELOW and rest[0] not in BELOW[room] | {room}:
            found.append(f"{where}:{line}: {room} imports saman.{rest[0]}, which is not below it")
        if first in BELOW and (ROOT / first).is_dir():
            found.append(f"{where}:{line}: {first} is imported as a top-level package instead of saman.{first}")
        if first in ONLY_TRAINERS and room != "trainers":
            found.append(f"{where}:{line}: only trainers imports {first}")
        if first in NOT_AT_THE_BOTTOM and room in ("configs", "pipeline"):
            found.append(f"{where}:{line}: {room} imports {first}")
    return found


def files_of(room: str) -> list[Path]:
    """Every Python file of a room."""
    return sorted((ROOT / room).rglob("*.py"))


@pytest.mark.parametrize("room", BELOW)
def test_a_room_imports_only_from_floors_below(room: str) -> None:
    assert files_of(room)
    texts = {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in files_of(room)}
    found = [rule for where, text in texts.items() for rule in broken_rules(room, text, where)]
    assert not found, "\n".join(found)


def test_every_room_is_known_and_linked() -> None:
    rooms = {path.name for path in (ROOT / "src" / "saman").iterdir() if path.is_symlink()}
    assert rooms == set(BELOW)
    for room in rooms:
        assert (ROOT / "src" / "saman" / room).resolve() == ROOT / room


def test_the_floors_themselves_have_no_circle() -> None:
    done: set[str] = set()
    while ready := {room for room, below in BELOW.items() if room not in done and below <= done}:
        done |= ready
    assert done == set(BELOW)


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("launcher", "from saman.trainers import worker"),
        ("launcher", "from saman import cli"),
        ("configs", "import saman.launcher.placement"),
        ("registry", "def f():\n    import tensorflow as tf"),
        ("slurm", "from horovod.runner import launch"),
        ("cli", "import saman.trainers.worker"),
        ("scaling", "import configs"),
        ("launcher", "from ..trainers import worker"),
        ("launcher", "from importlib import import_module\nimport_module('tensorflow')"),
    ],
)
def test_an_import_that_runs_upward_is_found(room: str, line: str) -> None:
    assert broken_rules(room, line, f"{room}/x.py")


def test_what_is_below_may_be_imported() -> None:
    assert not broken_rules("trainers", "import tensorflow\nimport saman.launcher.run_folder", "trainers/x.py")
    assert not broken_rules("launcher", "import json\nfrom saman.launcher.setup import stacks", "launcher/x.py")
    assert not broken_rules("launcher", "from ..machine import Node", "launcher/setup/x.py")
