"""A version is checked before it is needed; what changes afterwards is noticed without reading its files again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.registry.registry_kit import finished_run

from saman.configs.errors import UserError
from saman.registry.lifecycle.publish import publish
from saman.registry.store.layout import MANIFEST, ModelFolder, find_model
from saman.serving.supervision import checking
from saman.serving.supervision.checking import Checker
from saman.serving.supervision.settings import EngineChoice

WEIGHTS = Path("variables") / "variables.data-00000-of-00001"


class Engine:
    def load(self, files: Path) -> None:
        assert (files / WEIGHTS).is_file()

    def kill(self) -> None:
        pass


class Engines:
    """Counts rehearsals."""

    def __init__(self) -> None:
        self.rehearsals = 0

    def take(self, kind: str, *, is_rehearsal: bool, is_urgent: bool) -> Engine:
        assert is_rehearsal
        self.rehearsals += 1
        return Engine()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelFolder:
    monkeypatch.setattr(checking, "read_signature_map", lambda snapshot: b"")
    monkeypatch.setattr(checking, "rehearse", lambda *rest: None)
    monkeypatch.setattr(checking, "check_memory", lambda *rest: None)
    for number in range(2):
        publish(finished_run(tmp_path / str(number), seed=number), tmp_path / "models")
    return find_model(tmp_path / "models", "digits")


@pytest.fixture
def checker(tmp_path: Path) -> Checker:
    (tmp_path / "runtime").mkdir()
    engines: Any = Engines()
    return Checker(EngineChoice.OPENVINO, tmp_path / "runtime", engines)


def test_a_version_is_checked_once_and_its_copy_stays_as_it_was(folder: ModelFolder, checker: Checker) -> None:
    right = (folder.version(1) / WEIGHTS).read_bytes()
    first = checker.check(folder, 1)
    (folder.version(1) / WEIGHTS).chmod(0o644)
    (folder.version(1) / WEIGHTS).write_bytes(bytes(len(right)))
    assert checker.check(folder, 1) is first and checker.holds("digits", 1)
    assert (first.files / WEIGHTS).read_bytes() == right
    assert checker._engines.rehearsals == 1  # type: ignore[attr-defined]


def test_damage_before_the_check_is_found(folder: ModelFolder, checker: Checker) -> None:
    (folder.version(1) / WEIGHTS).chmod(0o644)
    (folder.version(1) / WEIGHTS).write_bytes(b"damaged")
    with pytest.raises(UserError, match="variables"):
        checker.check(folder, 1)
    assert not checker.holds("digits", 1)


@pytest.mark.parametrize("what", ["manifest", "policy", "log"])
def test_what_changes_after_the_check_is_noticed(folder: ModelFolder, checker: Checker, what: str) -> None:
    checker.check(folder, 1)
    file = {
        "manifest": folder.version(1) / MANIFEST,
        "policy": folder.path / "policy.yaml",
        "log": sorted(path for path in folder.log.iterdir() if path.is_file())[0],
    }[what]
    if file.exists():
        file.chmod(0o644)
    file.write_bytes(b"nonsense: [")
    with pytest.raises(UserError):
        checker.check(folder, 1)


def test_copies_that_nobody_may_promote_are_removed(folder: ModelFolder, checker: Checker, tmp_path: Path) -> None:
    first, second = checker.check(folder, 1), checker.check(folder, 2)
    checker.keep("digits", {2})
    checker.keep("other", {1})
    assert not first.snapshot.exists() and second.snapshot.exists()
    assert [checker.holds("digits", number) for number in (1, 2)] == [False, True]


def test_a_copy_that_only_waits_leaves_room(
    folder: ModelFolder, checker: Checker, monkeypatch: pytest.MonkeyPatch
) -> None:
    checker.require_room(folder, 1)
    usage = shutil.disk_usage(folder.path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2000))
    with pytest.raises(UserError, match="are free"):
        checker.require_room(folder, 1)
