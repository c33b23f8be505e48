"""Loads workflows, and tells their files from those of experiments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from saman.configs import yaml12
from saman.configs.home_folder import in_home
from saman.configs.problems import validated
from saman.configs.schemas.workflow import Workflow


def is_workflow(text: str) -> bool:
    """Whether ``text`` is the path of a YAML file with ``steps``."""
    path = in_home(text)
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        return False
    values = yaml12.read(path)
    return isinstance(values, dict) and "steps" in values


def load_workflow(path: Path) -> Workflow:
    """Load a workflow. Raises ``UserError`` with every mistake: unknown steps, circles, duplicate names."""
    values: Any = yaml12.read(in_home(path))
    return validated(Workflow, values, str(path))


def beside(file: Path, name_or_path: str) -> str:
    """A file that a workflow names: beside the workflow's file if it is there, else as it is written."""
    path = in_home(file).parent / name_or_path
    return str(path) if path.suffix in (".yaml", ".yml") and path.is_file() else name_or_path
