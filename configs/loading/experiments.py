"""Finds and loads experiments, and checks that the code and files they name exist."""

from __future__ import annotations

import ast
import logging
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saman.configs import yaml12
from saman.configs.errors import UserError, choices
from saman.configs.home_folder import in_home
from saman.configs.loading.files import find, overridden, set_key
from saman.configs.loading.includes import read_with_included
from saman.configs.names import code_references
from saman.configs.private_values import SECRETS_FILE, fill_references, references
from saman.configs.problems import gathered, validated
from saman.configs.schemas.experiment import Experiment

_NAMES_OF_CODE = ("build", "source", "name", "loss")  # keys whose value may be package.module:function
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedExperiment:
    """An experiment, its file, and the folders of the user's code (last on ``sys.path``)."""

    experiment: Experiment
    file: Path
    code_path: tuple[Path, ...]


def with_ranks(values: Any, ranks: int) -> Any:
    """``values`` with ``-np RANKS``, spread evenly over the experiment's nodes.

    Raises ``UserError`` if the ranks do not divide evenly.
    """
    if ranks < 1:
        raise UserError(f"{ranks} ranks are too few", where="command line: -np", remedy="1 or more")
    resources = values.get("resources") if isinstance(values, dict) else None
    nodes = resources.get("nodes", 1) if isinstance(resources, dict) else 1
    if not isinstance(nodes, int) or nodes < 1:
        nodes = 1  # the schema reports the mistake
    if ranks % nodes:
        raise UserError(
            f"{ranks} ranks cannot be spread evenly over {nodes} nodes",
            where="command line: -np",
            remedy=f"a multiple of {nodes}, or resources.nodes={ranks}",
        )
    values = set_key(values, ["resources", "nodes"], nodes, "-np")
    return set_key(values, ["resources", "ranks_per_node"], ranks // nodes, "-np")


def load_experiment(name_or_path: str, overrides: Sequence[str] = (), ranks: int | None = None) -> LoadedExperiment:
    """Load an experiment, apply overrides, and check it before anything starts.

    Args:
        name_or_path: a shipped experiment by name, or a file by path.
        overrides: changes as ``key.path=value``.
        ranks: the number of ranks (``-np``).

    Raises:
        UserError: with every mistake: file, key path, value, what would be valid.
    """
    loaded = read_experiment(name_or_path, overrides, ranks)
    missing = list(_missing(loaded.experiment, loaded.code_path))
    if missing:
        raise gathered(missing, str(loaded.file), [text.partition("=")[0] for text in overrides])
    return loaded


def read_experiment(name_or_path: str, overrides: Sequence[str] = (), ranks: int | None = None) -> LoadedExperiment:
    """Load an experiment for another machine: as ``load_experiment``, but what it names need not exist here."""
    file = find("experiments", name_or_path)
    _log.debug("experiment from %s with %d overrides", file, len(overrides))  # values may be secret
    values = overridden(_with_kept_values(read_with_included(file), file), overrides)
    if ranks is not None:
        values = with_ranks(values, ranks)
    given = [text.partition("=")[0] for text in overrides]
    experiment = validated(Experiment, values, str(file), given)
    return LoadedExperiment(experiment, file, (file.resolve().parent, Path.cwd()))


def _with_kept_values(values: Any, file: Path) -> Any:
    """The values of a run's ``experiment.yaml`` with the private values that are kept beside it."""
    if not isinstance(values, dict) or not references(values, "secret"):
        return values
    beside = file.with_name(SECRETS_FILE)
    record = yaml12.read(beside)  # JSON is YAML
    kept = record.get("values") if isinstance(record, dict) else None

    def find(kind: str, name: str) -> str:
        if kind != "secret":
            return f"${{{kind}:{name}}}"
        if not isinstance(kept, dict) or name not in kept:
            raise UserError(f"{beside} has no value for {name}", where=str(file), remedy="give the value itself")
        return str(kept[name])

    return fill_references(values, find)


def _missing(experiment: Experiment, code_path: Iterable[Path]) -> Iterable[UserError]:
    """Files and functions that the experiment names but that do not exist."""
    named = {"model": {"build": experiment.model.build}, "data": {"source": experiment.data.source}}
    train = experiment.train.model_dump(mode="json", by_alias=True, exclude={"warm_start"})
    for where, reference in code_references({**named, "train": train}):
        problem = missing_code(reference, code_path) if where.rpartition(".")[2] in _NAMES_OF_CODE else None
        if problem:
            yield UserError(problem.problem, where=where, remedy=problem.remedy)
    folder = experiment.data.args.get("folder")
    if experiment.data.source == "fashion_mnist" and folder is not None and not in_home(folder).is_dir():
        remedy = "a folder with the four IDX files"
        yield UserError(f"no such folder: {folder!r}", where="data.args.folder", remedy=remedy)


def missing_code(reference: str, code_path: Iterable[Path]) -> UserError | None:
    """What is wrong with a loaded file's ``package.module:function``; found without importing the module."""
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
    return UserError(f"no module {module!r}", remedy=f"searched {searched} and the installed packages")


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
            return None  # a conditional definition: only running the module can tell
    if function in names or "*" in names:
        return None
    return UserError(f"{source} defines no {function!r}", remedy=choices(function, names) if names else None)
