"""The user's cache: its folder, and locks that a stopped process does not hold for ever."""

from __future__ import annotations

import ast
import time
from pathlib import Path

import pytest

from saman.configs.errors import EnvironmentLack
from saman.runs import caches
from saman.runs.caches import cache_folder, hold_user_lock


def test_the_folder_is_that_of_the_user_or_the_one_that_is_named() -> None:
    assert cache_folder({"SAMAN_CACHE_DIR": "/project/cache"}) == Path("/project/cache")
    assert cache_folder({"XDG_CACHE_HOME": "/home/ada/.c"}) == Path("/home/ada/.c/saman")
    assert cache_folder({}) == Path.home() / ".cache" / "saman"


def test_a_lock_that_another_process_keeps_is_waited_for_within_a_limit_and_its_holder_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caches, "LOCK_SECONDS", 0.3)
    told: list[int] = []
    began = time.monotonic()
    with (
        hold_user_lock("wheel", tmp_path, lambda: told.append(1)),
        pytest.raises(EnvironmentLack, match="process [0-9]+ on .* has held"),
        hold_user_lock("wheel", tmp_path, lambda: told.append(2)),
    ):
        raise AssertionError("two hold the lock")
    assert told == [2] and time.monotonic() - began < 5


def test_no_lock_is_waited_for_without_a_limit(repository: Path) -> None:
    rooms = [folder.resolve() for folder in (repository / "src" / "saman").iterdir() if folder.is_symlink()]
    endless = [
        f"{file.relative_to(repository)}:{call.lineno}"
        for room in rooms
        for file in room.rglob("*.py")
        for call in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(call, ast.Call)
        for word in call.keywords
        if word.arg == "wait_seconds" and isinstance(word.value, ast.Constant) and word.value.value is None
    ]
    assert endless == []
