"""Whole-file writes and appended lines, seen from below: what is synced when, and what a full disk does."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from saman.runs.files.whole import append_line, read_lines, write_whole


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The order of syncs and renames: (call, name of the file)."""
    seen: list[tuple[str, str]] = []
    fsync, replace = os.fsync, Path.replace

    def note_fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        seen.append(("fsync", path.read_text() if path.is_file() else "folder"))
        fsync(descriptor)

    def note_replace(self: Path, target: Path) -> Path:
        seen.append(("rename", self.read_text()))
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "replace", note_replace)
    return seen


def test_the_whole_content_is_on_disk_before_it_gets_its_name(tmp_path: Path, calls: list[tuple[str, str]]) -> None:
    write_whole(tmp_path / "file", "new content")
    assert calls[:2] == [("fsync", "new content"), ("rename", "new content")]


def test_a_reader_never_sees_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("old")
    monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError, match="No space"):
        write_whole(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(("private", "mode"), [(False, 0o644), (True, 0o600)])
def test_only_the_owner_writes_and_a_private_file_is_private_from_the_start(
    private: bool, mode: int, tmp_path: Path
) -> None:
    before = os.umask(0)
    try:
        write_whole(tmp_path / "file", "text", private=private)
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == mode


def test_a_line_after_a_torn_one_is_whole(tmp_path: Path) -> None:
    (tmp_path / "lines").write_text('{"a": 1}\n{"b": ')
    append_line(tmp_path / "lines", {"c": 3})
    assert read_lines(tmp_path / "lines") == ([{"a": 1}, {"c": 3}], 1)


def test_a_short_write_is_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[: len(data) // 2]))
    with pytest.raises(OSError, match="No space"):
        append_line(tmp_path / "lines", {"event": "completed"})
    monkeypatch.undo()
    append_line(tmp_path / "lines", {"event": "next"})
    assert json.loads((tmp_path / "lines").read_text().splitlines()[-1]) == {"event": "next"}
