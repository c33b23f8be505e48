"""Finds, overrides and checks YAML files: shipped ones by name, the user's by path."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saman.configs import yaml12
from saman.configs.errors import UserError, choices
from saman.configs.experiment import Experiment
from saman.configs.names import is_reference
from saman.configs.problems import gathered, validated

SHIPPED = Path(__file__).parent
# Setting one of these on the command line replaces the other, whatever the file says.
_EXCLUSIVE = (("train", "global_batch_size", "batch_size_per_rank"),)


@dataclass(frozen=True)
class LoadedExperiment:
    """An experiment, the file it came from, and where its user code is looked for (last on ``sys.path``)."""

    experiment: Experiment
    file: Path
    code_path: tuple[Path, ...]


def find(kind: str, name_or_path: str) -> Path:
    """The YAML file of a ``kind`` (``experiments``, ``clusters``, ``studies``), shipped by name or given by path.

    Raises ``UserError`` with the nearest shipped names.
    """
    path = Path(name_or_path).expanduser()
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        if path.is_file():
            return path
        problem = "is a folder" if path.is_dir() else "no such file"
        remedy = f"a path, or one of the shipped {kind}: {', '.join(shipped(kind))}"
        raise UserError(problem, where=str(path), remedy=remedy)
    candidate = SHIPPED / kind / f"{name_or_path}.yaml"
    if candidate.is_file():
        return candidate
    raise UserError(
        f"no shipped file of {kind} is called {name_or_path!r}",
        remedy=f"{choices(name_or_path, shipped(kind))}; or the path of a .yaml file",
    )


def shipped(kind: str) -> list[str]:
    """Names of the YAML files of a ``kind`` that saman ships."""
    return sorted(path.stem for path in (SHIPPED / kind).glob("*.yaml"))


def overridden(values: Any, overrides: Sequence[str]) -> Any:
    """``values`` with each ``key.path=value`` set; the value is read as YAML. ``values`` itself is left alone."""
    for text in overrides:
        path, separator, value = text.partition("=")
        keys = path.split(".")
        if not separator or not all(keys):
            raise UserError(f"{text!r} is not an override", where="command line", remedy="key.path=value")
        values = _set(values, keys, yaml12.parse(value, f"command line: {path}"), path)
        for *parents, one, other in _EXCLUSIVE:
            for mine, replaced in ((one, other), (other, one)):
                if keys == [*parents, mine]:
                    values = _set(values, [*parents, replaced], None, path)
    return values


def _set(values: Any, keys: Sequence[str], value: Any, path: str) -> Any:
    if not keys:
        return value
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise UserError(
            f"{path} cannot be set: {keys[0]!r} would lie inside {values!r}, which is not a mapping",
            where="command line",
            remedy=f"{path.rsplit('.' + keys[0], 1)[0]}={{{keys[0]}: …}}",
        )
    return {**values, keys[0]: _set(values.get(keys[0]), keys[1:], value, path)}


def with_ranks(values: Any, ranks: int) -> Any:
    """``values`` with ``-np RANKS``: spread evenly over the nodes that the experiment names.

    Raises ``UserError`` when they do not divide.
    """
    if ranks < 1:
        raise UserError(f"{ranks} ranks cannot train", where="command line: -np", remedy="1 or more")
    resources = values.get("resources") if isinstance(values, dict) else None
    nodes = resources.get("nodes", 1) if isinstance(resources, dict) else 1
    if not isinstance(nodes, int) or nodes < 1:
        nodes = 1  # the schema says what is wrong with it
    if ranks % nodes:
        raise UserError(
            f"{ranks} ranks cannot be spread evenly over {nodes} nodes",
            where="command line: -np",
            remedy=f"a multiple of {nodes}, or resources.nodes={ranks}",
        )
    values = _set(values, ["resources", "nodes"], nodes, "-np")
    return _set(values, ["resources", "ranks_per_node"], ranks // nodes, "-np")


def load_experiment(name_or_path: str, overrides: Sequence[str] = (), ranks: int | None = None) -> LoadedExperiment:
    """The experiment of a file with overrides and ``-np`` applied, checked against everything known before a start.

    Raises one ``UserError`` that lists every mistake: file, key path, value, what would be right.
    """
    file = find("experiments", name_or_path)
    values = overridden(yaml12.read(file), overrides)
    if ranks is not None:
        values = with_ranks(values, ranks)
    experiment = validated(Experiment, values, str(file))
    code_path = (file.resolve().parent, Path.cwd())
    missing = list(_missing(experiment, code_path))
    if missing:
        raise gathered(missing, str(file))
    return LoadedExperiment(experiment, file, code_path)


def _missing(experiment: Experiment, code_path: Iterable[Path]) -> Iterable[UserError]:
    """Files and functions that the experiment names and that are not there."""
    for where, reference in (("model.build", experiment.model.build), ("data.source", experiment.data.source)):
        if is_reference(reference):
            problem = missing_code(reference, code_path)
            if problem:
                yield UserError(problem.problem, where=where, remedy=problem.remedy)
    folder = experiment.data.args.get("folder")
    if experiment.data.source == "fashion_mnist" and folder is not None and not Path(folder).expanduser().is_dir():
        remedy = "a folder with the four IDX files"
        yield UserError(f"no such folder: {folder!r}", where="data.args.folder", remedy=remedy)


def missing_code(reference: str, code_path: Iterable[Path]) -> UserError | None:
    """What is wrong with ``package.module:function``, found without importing (and so running) it."""
    module, function = reference.split(":")
    parts = module.split(".")
    folders = [*(Path(entry) for entry in sys.path if entry), *code_path]
    for folder in folders:
        base = folder.joinpath(*parts)
        source = next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)
        if source is not None:
            return _missing_name(source, function)
        if any(base.parent.glob(f"{parts[-1]}.*.so")) or any(base.parent.glob(f"{parts[-1]}.pyc")):
            return None
    searched = ", ".join(str(folder) for folder in code_path)
    return UserError(f"no module {module!r} was found", remedy=f"looked in {searched} and the installed packages")


def _missing_name(source: Path, function: str) -> UserError | None:
    try:
        tree = ast.parse(source.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError, OSError) as error:
        return UserError(f"{source} cannot be read as Python: {error}")
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif not isinstance(node, ast.Expr):
            return None  # defined under a condition: only running it can tell
    if function in names or "*" in names:
        return None
    return UserError(f"{source} defines no {function!r}", remedy=choices(function, names) if names else None)
