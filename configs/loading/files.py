"""Finds YAML files, shipped by name or the user's by path, and applies ``key.path=value`` overrides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from saman.configs import yaml12
from saman.configs.errors import UserError, choices
from saman.configs.home_folder import in_home

SHIPPED = Path(__file__).parents[1]


# Setting either of a pair on the command line replaces the other, whatever the file says.
_EXCLUSIVE = (("train", "global_batch_size", "batch_size_per_rank"),)


def find(kind: str, name_or_path: str) -> Path:
    """The YAML file of a ``kind`` (``experiments``, ``clusters``, ``studies``): a shipped file by name, or a path.

    Raises ``UserError`` with the nearest shipped names.
    """
    path = in_home(name_or_path)
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        if path.is_file():
            return path
        problem = "is a folder" if path.is_dir() else "not a regular file" if path.exists() else "no such file"
        remedy = f"a path, or one of the shipped {kind}: {', '.join(shipped(kind))}"
        raise UserError(problem, where=str(path), remedy=remedy)
    candidate = SHIPPED / kind / f"{name_or_path}.yaml"
    if candidate.is_file():
        return candidate
    raise UserError(
        f"none of the shipped {kind} is named {name_or_path!r}",
        remedy=f"{choices(name_or_path, shipped(kind))}; or the path of a .yaml file",
    )


def shipped(kind: str) -> list[str]:
    """Names of the YAML files of a ``kind`` that saman ships."""
    return sorted(path.stem for path in (SHIPPED / kind).glob("*.yaml"))


def overridden(values: Any, overrides: Sequence[str]) -> Any:
    """A copy of ``values`` with each ``key.path=value`` set; the value is read as YAML."""
    for text in overrides:
        path, separator, value = text.partition("=")
        keys = path.split(".")
        if not separator or not all(keys):
            raise UserError(f"{text!r} is not an override", where="command line", remedy="key.path=value")
        values = set_key(values, keys, yaml12.parse(value, f"command line: {path}"), path)
        for *parents, first, second in _EXCLUSIVE:
            for mine, replaced in ((first, second), (second, first)):
                if keys == [*parents, mine]:
                    values = set_key(values, [*parents, replaced], None, path)
    return values


def set_key(values: Any, keys: Sequence[str], value: Any, path: str) -> Any:
    """Return a copy of nested mappings with a key path set.

    Args:
        values: The mappings; ``None`` counts as empty.
        keys: The key path, outermost key first. If it is empty, the result is ``value``.
        value: The new value.
        path: The key path as the user wrote it, for errors.

    Raises:
        UserError: A key on the path has a value that is not a mapping.

    >>> set_key({"train": {"epochs": 3}}, ["train", "seed"], 7, "train.seed")
    {'train': {'epochs': 3, 'seed': 7}}
    """
    if not keys:
        return value
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise UserError(
            f"{path} cannot be set: {keys[0]!r} would be a key of {values!r}, which is not a mapping",
            where="command line",
            remedy=f"{path.rsplit('.' + keys[0], 1)[0]}={{{keys[0]}: …}}",
        )
    return {**values, keys[0]: set_key(values.get(keys[0]), keys[1:], value, path)}


def beside(file: Path, name: str) -> str:
    """Return the path of a file that is named beside another, as an experiment in a study; else the name itself."""
    found = file.parent / name
    return str(found) if found.suffix in (".yaml", ".yml") and found.is_file() else name


def with_setting(study: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Return the values of a study with a further change of its experiment, under ``set``."""
    changes = study.get("set")
    return {**study, "set": {**(changes if isinstance(changes, dict) else {}), key: value}}
