"""A reader never sees half a file, and a line that a killed or hindered writer left is dropped and counted."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from saman.configs.yaml12 import DEEPEST
from saman.runs.files.whole import append_line, parse_json, read_json, read_lines, write_json, write_whole

JSON = some.recursive(
    some.none() | some.booleans() | some.integers() | some.text(), lambda inner: some.lists(inner, max_size=3)
)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    write_json(file, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(file, {"a": float("nan")})
    assert read_json(file) == {"a": 1}
    (tmp_path / "locked").mkdir()
    with pytest.raises(IsADirectoryError):
        write_whole(tmp_path / "locked", "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["locked", "state.json"]


def test_a_torn_line_is_dropped_and_counted_and_the_next_one_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    append_line(file, {"n": 1})
    with file.open("a") as torn:
        torn.write('{"n": 2, "tor')
    append_line(file, {"n": 3})
    assert read_lines(file) == ([{"n": 1}, {"n": 3}], 1)


def test_a_failed_write_leaves_the_old_content_and_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "state.json"
    write_json(file, 1)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_json(file, 2)
    assert read_json(file) == 1 and list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(("private", "mode"), [(True, 0o600), (False, 0o644)])
def test_only_the_owner_writes_whatever_the_umask(tmp_path: Path, private: bool, mode: int) -> None:
    before = os.umask(0)
    try:
        write_whole(tmp_path / "key", "secret", private=private)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == mode


@given(some.lists(some.dictionaries(some.text(), JSON, max_size=3), max_size=5), some.binary(max_size=20))
def test_lines_are_read_as_they_were_appended_whatever_lies_between(
    lines: list[dict[str, object]], noise: bytes
) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "events.jsonl")
        for line in lines:
            append_line(file, line)
        with file.open("ab") as torn:
            torn.write(b'{"torn": ,' + noise.replace(b"\n", b""))
        append_line(file, {"last": True})
        assert read_lines(file) == ([*lines, {"last": True}], 1)


def test_a_line_that_a_full_disk_cuts_is_written_again_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, write = tmp_path / "events.jsonl", os.write
    sizes = [3, None]

    def short(descriptor: int, data: bytes) -> int:
        return write(descriptor, data[: sizes.pop(0) if sizes else 1])

    monkeypatch.setattr(os, "write", short)
    append_line(file, {"a": 1})
    assert read_lines(file) == ([{"a": 1}], 1)
    with pytest.raises(OSError, match="No space"):
        append_line(file, {"b": 2})


def test_json_may_be_as_deep_as_yaml_and_not_deeper() -> None:
    def nested(levels: int) -> str:
        return "[" * levels + "]" * levels

    assert parse_json(nested(DEEPEST)) is not None
    for levels in (DEEPEST + 2, 100_000):
        with pytest.raises(ValueError, match="deeper"):
            parse_json(nested(levels))
    assert parse_json(json.dumps([[]] * 1000)) == [[]] * 1000
