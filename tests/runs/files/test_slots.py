"""A file of slots: a reader sees a whole value, the newest, whatever moment the writer is killed at."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from saman.runs.files.slots import SlotFile, read_newest


def _read(path: Path, after: int = 0) -> bytes | None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        stored = read_newest(descriptor, after)
        return stored.value if stored else None
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("sizes", [[10, 20, 5], [10, 9000, 20, 9000, 70_000, 3], [200_000, 1]])
def test_the_newest_value_is_read_however_its_size_changes(tmp_path: Path, sizes: list[int]) -> None:
    file = SlotFile(tmp_path / "state")
    for number, size in enumerate(sizes):
        value = bytes([65 + number]) * size
        file.write(value)
        assert _read(tmp_path / "state") == value
    file.close()


def test_a_write_that_is_torn_anywhere_leaves_the_value_before(tmp_path: Path) -> None:
    path, file = tmp_path / "state", SlotFile(tmp_path / "state")
    file.write(b"first " * 20)
    before = path.read_bytes()
    file.write(b"second" * 20)
    after = path.read_bytes()
    file.close()
    whole = 0
    for cut in range(len(after) + 1):
        path.write_bytes(after[:cut] + before[cut:])
        found = _read(path)
        assert found in (b"first " * 20, b"second" * 20)
        whole += found == b"second" * 20
    assert whole == 1 or after[-1] == before[-1]  # only the complete write


def test_a_second_writer_goes_on_where_the_first_was_killed(tmp_path: Path) -> None:
    first = SlotFile(tmp_path / "state")
    for number in range(3):
        first.write(b"%d" % number)
    second = SlotFile(tmp_path / "state")
    second.write(b"later")
    assert _read(tmp_path / "state") == b"later"
    first.close(), second.close()


def test_a_reader_that_has_the_newest_value_gets_nothing(tmp_path: Path) -> None:
    file = SlotFile(tmp_path / "state")
    file.write(b"a"), file.write(b"b")
    assert _read(tmp_path / "state", after=1) == b"b"
    assert _read(tmp_path / "state", after=2) is None
    file.close()


def test_writing_again_neither_opens_nor_renames(tmp_path: Path) -> None:
    file = SlotFile(tmp_path / "state")
    file.write(b"a" * 100)
    inode, names = (tmp_path / "state").stat().st_ino, list(tmp_path.iterdir())
    for _ in range(50):
        file.write(b"b" * 100)
    assert ((tmp_path / "state").stat().st_ino, list(tmp_path.iterdir())) == (inode, names)
    assert (tmp_path / "state").stat().st_size < 2 * 4096
    file.close()


def test_a_planted_fifo_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "state")
    with pytest.raises(OSError):
        SlotFile(tmp_path / "state")


@pytest.mark.parametrize("garbage", [b"", b"x", b"samanSL1" + b"\xff" * 5000, os.urandom(9000)])
def test_a_damaged_file_has_no_value(tmp_path: Path, garbage: bytes) -> None:
    (tmp_path / "state").write_bytes(garbage)
    assert _read(tmp_path / "state") is None
    file = SlotFile(tmp_path / "state")
    file.write(b"new")
    assert _read(tmp_path / "state") == b"new"
    file.close()
