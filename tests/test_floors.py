"""Holds the floors: imports only run downward, no circle exists, and only the ranks' code imports TensorFlow."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# room -> the rooms it may import; docs/design.md draws the same picture
BELOW = {
    "configs": set(),
    "runs": {"configs"},
    "pipeline": {"runs", "configs"},
    "launcher": {"runs", "configs"},
    "trainers": {"pipeline", "runs", "configs"},
    "registry": {"runs", "configs"},
    "serving": {"registry", "runs", "configs"},
    "scaling": {"launcher", "pipeline", "runs", "configs"},
    "slurm": {"launcher", "runs", "configs"},
    "jobs": {"slurm", "serving", "registry", "launcher", "runs", "configs"},
    "tuning": {"jobs", "slurm", "scaling", "registry", "launcher", "runs", "configs"},
    "api": {"tuning", "jobs", "slurm", "serving", "scaling", "registry", "launcher", "runs", "configs"},
    "cli": {
        "api",
        "tuning",
        "jobs",
        "slurm",
        "serving",
        "scaling",
        "registry",
        "launcher",
        "pipeline",
        "runs",
        "configs",
    },  # fmt: skip
}
ONLY_TRAINERS = {"tensorflow", "keras", "tf_keras", "horovod", "mpi4py"}
# The two lowest rooms do with pydantic, PyYAML and numpy.
NOT_AT_THE_BOTTOM = {"polars", "altair", "scipy", "rich", "typer"}
MOST_FILES = 14  # Python files of one folder


def imports(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """Line and absolute name of every import in ``tree``, those inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            yield node.lineno, name
            yield from ((node.lineno, f"{name}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and _name(node.func) in ("import_module", "__import__"):
            yield from ((node.lineno, str(a.value)) for a in node.args[:1] if isinstance(a, ast.Constant))


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def broken_rules(room: str, text: str, where: str) -> list[str]:
    """Every import in the file ``where`` of ``room`` that its floor does not allow."""
    found = {}
    package = ".".join(["saman", *Path(where).parent.parts])
    for line, name in imports(ast.parse(text), package):
        first, *rest = name.split(".")
        if first == "saman" and rest and rest[0] in BELOW and rest[0] not in BELOW[room] | {room}:
            found[line, rest[0]] = f"{where}:{line}: {room} imports saman.{rest[0]}, which is not below it"
        if first in BELOW and (ROOT / first).is_dir():
            found[line, first] = f"{where}:{line}: {first} is imported as a top-level package instead of saman.{first}"
        if first in ONLY_TRAINERS and room != "trainers":
            found[line, first] = f"{where}:{line}: only trainers imports {first}"
        if first in NOT_AT_THE_BOTTOM and room in ("configs", "pipeline"):
            found[line, first] = f"{where}:{line}: {room} imports {first}"
    return list(found.values())


def files_of(room: str) -> list[Path]:
    """Every Python file of a room."""
    return sorted((ROOT / room).rglob("*.py"))


def module_of(path: Path) -> str:
    """The dotted name of a file below the root, without ``saman.``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules() -> dict[str, set[str]]:
    """Every module of saman, with the modules of saman that it imports."""
    modules = {module_of(path): path for room in BELOW for path in files_of(room)}
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        package = "saman." + (module if path.name == "__init__.py" else module.rpartition(".")[0])
        names = {name.removeprefix("saman.") for _, name in imports(ast.parse(path.read_text("utf-8")), package)}
        # ``from a.b import c`` means the module a.b.c where it exists, else a.b
        parents = {name.rpartition(".")[0] for name in names if name in modules}
        graph[module] = {name for name in names if name in modules and name not in parents} - {module}
    return graph


def circles(graph: Mapping[str, set[str]]) -> list[str]:
    """What lies on a circle of ``graph``, or only leads into a circle."""
    left = {node: {other for other in others if other in graph} for node, others in graph.items()}
    while ready := {node for node, others in left.items() if not others & set(left)}:
        left = {node: others for node, others in left.items() if node not in ready}
    return sorted(left)


def sub_rooms(graph: Mapping[str, set[str]], room: str) -> dict[str, set[str]]:
    """The folders and single files at the top of ``room``, with those that they import."""
    found: dict[str, set[str]] = {}
    for module, others in graph.items():
        if module.startswith(f"{room}."):
            mine = ".".join(module.split(".")[:2])
            inside = {".".join(other.split(".")[:2]) for other in others if other.startswith(f"{room}.")}
            found.setdefault(mine, set()).update(inside - {mine})
    return found


@pytest.mark.parametrize("room", BELOW)
def test_a_room_imports_only_from_floors_below(room: str) -> None:
    assert files_of(room)
    texts = {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in files_of(room)}
    found = [rule for where, text in texts.items() for rule in broken_rules(room, text, where)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("room", BELOW)
def test_the_sub_rooms_of_a_room_have_no_circle(room: str) -> None:
    assert not circles(sub_rooms(imported_modules(), room))


def test_no_module_takes_part_in_a_circle_of_imports() -> None:
    assert not circles(imported_modules())


def test_a_circle_behind_type_checking_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"a"}, "c": set()}) == ["a", "b"]
    assert dict(imports(ast.parse("if TYPE_CHECKING:\n    from saman.runs import folder"), "saman.x"))


def test_git_keeps_every_sub_room_of_runs() -> None:
    """.gitignore leaves out run folders beside the rooms, and would leave out a new sub-room too."""
    kept = (ROOT / ".gitignore").read_text("utf-8").splitlines()
    rooms = {path.parent.name for path in (ROOT / "runs").glob("*/__init__.py")}
    assert [name for name in sorted(rooms) if f"!/runs/{name}/" not in kept] == []


@pytest.mark.parametrize("room", BELOW)
def test_a_folder_holds_about_a_dozen_files(room: str) -> None:
    for folder in {path.parent for path in files_of(room)}:
        names = [path.name for path in folder.glob("*.py") if path.name not in ("__init__.py", "__main__.py")]
        assert len(names) <= MOST_FILES, f"{folder.relative_to(ROOT)} holds {len(names)} files: {sorted(names)}"


def test_no_two_test_modules_share_a_name() -> None:
    """pytest imports test modules by file name: a second file of the same name stops the collection."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def test_no_class_name_means_two_things() -> None:
    places: dict[str, list[str]] = {}
    for path in (path for room in BELOW for path in files_of(room)):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert not {name: files for name, files in places.items() if len(files) > 1}


def test_every_room_is_known_and_linked() -> None:
    rooms = {path.name for path in (ROOT / "src" / "saman").iterdir() if path.is_symlink()}
    assert rooms == set(BELOW)
    for room in rooms:
        assert (ROOT / "src" / "saman" / room).resolve() == ROOT / room


@pytest.mark.parametrize("room", BELOW)
def test_every_room_has_a_folder_of_tests(room: str) -> None:
    assert list((ROOT / "tests" / room).rglob("test_*.py")), f"tests/{room} holds no tests"


def test_only_runs_reads_the_facts_of_events_by_name() -> None:
    """Other rooms take them typed: ``EpochEnd.from_event`` and its like."""
    files = [path for room in BELOW if room != "runs" for path in files_of(room)]
    found = [path for path in files if re.search(r"\bevent\.facts\b(?!\()", path.read_text("utf-8"))]
    assert not found


@pytest.mark.parametrize("room", BELOW)
def test_every_sub_room_has_tests_where_its_own_folder_says(room: str) -> None:
    folders = {path.parent.relative_to(ROOT) for path in files_of(room) if path.name != "__init__.py"}
    assert not [folder for folder in folders if not list((ROOT / "tests" / folder).rglob("test_*.py"))]


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
        ("configs", "import saman.launcher.plan.placement"),
        ("runs", "from saman.launcher import local"),
        ("registry", "def f():\n    import tensorflow as tf"),
        ("slurm", "from horovod.runner import launch"),
        ("slurm", "from saman.jobs import status"),
        ("cli", "import saman.trainers.worker"),
        ("api", "from saman.cli.main import main"),
        ("scaling", "import configs"),
        ("launcher", "from ..trainers import worker"),
        ("launcher", "from importlib import import_module\nimport_module('tensorflow')"),
    ],
)
def test_an_import_that_runs_upward_is_found(room: str, line: str) -> None:
    assert broken_rules(room, line, f"{room}/x.py")


def test_what_is_below_may_be_imported() -> None:
    assert not broken_rules("trainers", "import tensorflow\nimport saman.runs.folder", "trainers/x.py")
    assert not broken_rules("launcher", "import json\nfrom saman.launcher.setup import stacks", "launcher/x.py")
    assert not broken_rules("launcher", "from ..node.machine import Node", "launcher/setup/x.py")
