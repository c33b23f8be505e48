"""Finds and loads studies, and the experiment that a study varies."""

from __future__ import annotations

from pathlib import Path

from saman.configs import yaml12
from saman.configs.loading.files import find
from saman.configs.problems import validated
from saman.configs.schemas.study import Study


def load_study(name_or_path: str) -> tuple[Study, Path]:
    """A study, shipped by name or given by path, and its file. Raises ``UserError`` with every mistake."""
    file = find("studies", name_or_path)
    return validated(Study, yaml12.read(file), str(file)), file


def base_experiment(study: Study, file: Path) -> str:
    """The base experiment: a path if it is beside the study's file, else the name in the study."""
    beside = file.parent / study.experiment
    return str(beside) if beside.suffix in (".yaml", ".yml") and beside.is_file() else study.experiment
