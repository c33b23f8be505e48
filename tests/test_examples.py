"""Runs the examples in docstrings, so that none of them is wrong."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# The rooms that import nothing heavy; the trainers' examples would load TensorFlow, the API's are run by its own test.
ROOMS = ("configs", "runs", "pipeline", "launcher", "slurm", "scaling", "registry", "jobs")
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def modules_with_examples() -> list[str]:
    """Every module of these rooms whose docstrings show an example."""
    files = sorted(file for room in ROOMS for file in (ROOT / room).rglob("*.py"))
    shown = [file.relative_to(ROOT).with_suffix("") for file in files if "    >>> " in file.read_text("utf-8")]
    return [".".join(("saman", *path.parts)).removesuffix(".__init__") for path in shown]


@pytest.mark.parametrize("name", modules_with_examples())
def test_the_examples_of_a_module_are_right(name: str) -> None:
    failed, tried = doctest.testmod(importlib.import_module(name), optionflags=OPTIONS)
    assert tried and not failed


@pytest.mark.parametrize(
    "name",
    [
        "configs.schemas.experiment",
        "runs.folder",
        "runs.paths.run",
        "runs.paths.attempt",
        "runs.find",
        "runs.records.export",
        "runs.records.schema",
        "runs.records.study",
    ],
)
def test_the_public_face_of_the_run_folder_shows_examples(name: str) -> None:
    assert f"saman.{name}" in modules_with_examples()
