"""Finds and loads tuning studies with changes of the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from saman.configs import yaml12
from saman.configs.loading.files import beside, find, overridden, with_setting
from saman.configs.problems import validated
from saman.configs.schemas.tuning import Tuning


def load_tuning(name_or_path: str, changes: Sequence[str] = ()) -> tuple[Tuning, Path]:
    """A tuning study, shipped by name or given by path, and its file.

    Args:
        name_or_path: The study.
        changes: ``KEY=VALUE``: a key of the study, or a key of the experiment, as under the study's ``set``.

    Raises:
        UserError: With every mistake.
    """
    file = find("tunings", name_or_path)
    values = yaml12.read(file)
    for text in changes:
        values = _changed(values, text)
    return validated(Tuning, values, str(file)), file


def base_of(study: Tuning, file: Path) -> str | None:
    """The experiment that the study varies: a path if it is beside the study's file, else the name in the study."""
    if study.experiment is None:
        return None
    return beside(file, study.experiment)


def _changed(values: Any, text: str) -> Any:
    key, separator, value = text.partition("=")
    if not isinstance(values, dict) or not separator or key.split(".")[0] in (*Tuning.model_fields, "set", "objective"):
        return overridden(values, [text])
    return with_setting(values, key, yaml12.parse(value, f"command line: {key}"))
