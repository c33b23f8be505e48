"""Finds and loads studies with changes of the command line, and the experiment that a study varies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from saman.configs import yaml12
from saman.configs.errors import UserError, choices
from saman.configs.loading.files import beside, find, overridden, with_setting
from saman.configs.problems import validated
from saman.configs.schemas.study import Study


def load_study(name_or_path: str, changes: Sequence[str] = ()) -> tuple[Study, Path]:
    """A study, shipped by name or given by path, and its file.

    Args:
        name_or_path: The study.
        changes: ``KEY=VALUE``: a key of the study; an axis, which gets the value or list of values; or a key of the
            experiment, as under the study's ``set``.

    Raises:
        UserError: With every mistake.
    """
    file = find("studies", name_or_path)
    values = yaml12.read(file)
    for text in changes:
        values = _changed(values, text)
    return validated(Study, values, str(file)), file


def _changed(values: Any, text: str) -> Any:
    key, separator, value = text.partition("=")
    if not isinstance(values, dict) or not separator or key.split(".")[0] in Study.model_fields or key == "set":
        return overridden(values, [text])
    parsed = yaml12.parse(value, f"command line: {key}")
    axes = values.get("axes")
    if isinstance(axes, dict) and key in axes:
        return {**values, "axes": {**axes, key: parsed if isinstance(parsed, list) else [parsed]}}
    return with_setting(values, key, parsed)


def excluded_cells(study: Study, texts: Sequence[str]) -> list[Mapping[str, Any]]:
    """The cells of a loaded study that ``--exclude`` names, such as ``ranks=8`` or ``ranks=8,strategy=mirrored``.

    Raises:
        UserError: A text names no axis, or no combination of the study.
    """
    found: list[Mapping[str, Any]] = []
    for text in texts:
        cell: dict[str, Any] = {}
        for part in text.split(","):
            axis, separator, value = part.partition("=")
            if not separator or axis not in study.axes:
                remedy = f"AXIS=VALUE[,AXIS=VALUE]; {choices(axis, study.axes)}"
                raise UserError(f"no axis is called {axis!r}", where=f"--exclude {text}", remedy=remedy)
            cell[axis] = yaml12.parse(value, f"--exclude {text}")
        if not any(cell.items() <= settings.items() for settings in study.combinations()):
            values = "; ".join(f"{axis}: {', '.join(map(str, study.axes[axis]))}" for axis in cell)
            raise UserError("no combination of the study has these values", where=f"--exclude {text}", remedy=values)
        found.append(cell)
    return found


def base_experiment(study: Study, file: Path) -> str:
    """The base experiment: a path if it is beside the study's file, else the name in the study."""
    return beside(file, study.experiment)
