"""A workflow's steps: their order, and every mistake in them before anything is submitted."""

from __future__ import annotations

from pathlib import Path

import pytest

from saman.configs.errors import UserError
from saman.configs.loading.workflows import is_workflow, load_workflow

GOOD = """
name: flow
steps:
  report: {report: curve}
  prepare: {program: [python, prepare.py]}
  train: {experiment: quickstart, after: prepare, set: {train.epochs: 2}, ranks: 2}
  curve: {study: demo, after: [prepare], after_any: train}
"""


def load(folder: Path, text: str = GOOD) -> object:
    file = folder / "flow.yaml"
    file.write_text(text)
    return load_workflow(file)


def test_each_step_comes_after_those_that_it_waits_for(tmp_path: Path) -> None:
    assert load(tmp_path).order() == ["prepare", "train", "curve", "report"]  # type: ignore[attr-defined]
    assert is_workflow(str(tmp_path / "flow.yaml")) and not is_workflow("quickstart")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("after: prepare,", "after: prepair,", "no step is called 'prepair'"),
        ("program: [python, prepare.py]", "program: [x], after: curve", "circle"),
        ("report: curve", "report: prepare", "no report"),
        ("experiment: quickstart,", "experiment: quickstart, program: [x],", "exactly one"),
        ("experiment: quickstart, ", "", "none of them"),
        ("study: demo,", "study: demo, ranks: 2,", "no ranks"),
        ("after_any: train", "after_any: [train, prepare]", "after and after_any"),
        ("  prepare:", "  train:", "train"),  # a step twice
        ("  prepare:", "  'a b':", "not a name"),
        ("after: prepare,", "before: prepare,", "before"),
    ],
)
def test_a_mistake_is_refused_with_its_place(tmp_path: Path, old: str, new: str, words: str) -> None:
    with pytest.raises(UserError) as refused:
        load(tmp_path, GOOD.replace(old, new, 1))
    errors = (refused.value, *refused.value.others)
    assert any(words in str(error) for error in errors), errors
    assert "flow.yaml" in str(refused.value)


def test_a_circle_is_named_step_by_step(tmp_path: Path) -> None:
    steps = "".join(f"  {name}: {{program: [x], after: {after}}}\n" for name, after in ("ab", "bc", "ca"))
    with pytest.raises(UserError, match="a → b → c → a|b → c → a → b|c → a → b → c"):
        load(tmp_path, f"name: flow\nsteps:\n{steps}")
