"""``saman prune`` asks before it removes, and shows the disk use."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.cli.conftest import Saman

from saman.cli.runs import prune
from saman.configs.problems import validated
from saman.configs.schemas.script import Script
from saman.runs.find import find_runs
from saman.runs.folder import RunFolder


@pytest.fixture
def two_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAMAN_CACHE_DIR", str(tmp_path / "cache"))
    for _ in range(2):
        spec = validated(Script, {"name": "exp", "command": ["true"], "directory": "/"}, "test")
        RunFolder.create(tmp_path / "runs", spec).append("completed", "supervisor")
    return tmp_path / "runs"


def test_without_a_terminal_nothing_is_removed_unless_yes_is_said(saman: Saman, two_runs: Path) -> None:
    refused = saman("prune", "--older-than", "0h")
    assert refused.status == 2 and "--yes" in refused.err and len(find_runs(two_runs)) == 2
    assert saman("prune", "--older-than", "0h", "--dry-run").status == 0 and len(find_runs(two_runs)) == 2
    done = saman("prune", "--older-than", "0h", "--yes", "--json")
    assert done.json["removed"] == 1 and done.json["inodes"] > 3 and len(find_runs(two_runs)) == 1


def test_the_plan_names_what_stays_and_a_bad_age_is_refused(saman: Saman, two_runs: Path) -> None:
    found = saman("prune", "--dry-run", "--json").json
    assert found["remove"] == [] and {each["reason"] for each in found["keep"]} == {"newest", "young"}
    assert saman("prune", "--older-than", "soon").status == 2


def test_the_disk_use_is_shown_in_bytes_and_inodes(saman: Saman, two_runs: Path) -> None:
    shown = saman("prune", "--usage")
    assert shown.status == 0 and "exp" in shown.out and "inodes" in shown.out and "free on" in shown.out
    assert saman("prune", "--usage", "--json").json["total"]["inodes"] > 6


@pytest.mark.parametrize(("answer", "left"), [(False, 2), (True, 1)])
def test_on_a_terminal_the_user_is_asked_once(
    saman: Saman, two_runs: Path, monkeypatch: pytest.MonkeyPatch, answer: bool, left: int
) -> None:
    asked: list[str] = []

    def confirm(question: str) -> bool:
        asked.append(question)
        return answer

    terminal = SimpleNamespace(isatty=lambda: True)
    monkeypatch.setattr(prune, "sys", SimpleNamespace(stdin=terminal, stdout=terminal))
    monkeypatch.setattr(prune.typer, "confirm", confirm)
    assert saman("prune", "--older-than", "0h").status == (0 if answer else 2)
    assert len(asked) == 1 and "this entry" in asked[0] and len(find_runs(two_runs)) == left
