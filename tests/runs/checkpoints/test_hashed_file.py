"""A file is what was written to it, with its digest: with direct writes, without, and on a full disk."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from pathlib import Path

import pytest

from saman.runs.checkpoints import hashed_file
from saman.runs.checkpoints.hashed_file import BLOCK_BYTES, HashedFile

SIZES = [0, 1, 511, 4096, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 2 * BLOCK_BYTES + 12_345]


def written(path: Path, content: bytes, pieces: int = 1_000_003) -> str:
    with HashedFile(path) as file:
        for start in range(0, len(content), pieces):
            file.write(content[start : start + pieces])
        file.sync()
        assert file.written == len(content)
    return file.sha256


@pytest.fixture(params=["as it is", "no direct file", "no direct write", "short writes"])
def file_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """File systems that differ in what they take."""
    os_open, os_write = os.open, os.write

    def no_direct_file(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "")
        return os_open(path, flags, mode)

    def no_direct_write(descriptor: int, data: bytes) -> int:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT:
            raise OSError(errno.EINVAL, "")
        return os_write(descriptor, data)

    if request.param == "no direct file":
        monkeypatch.setattr(hashed_file.os, "open", no_direct_file)
    elif request.param == "no direct write":
        monkeypatch.setattr(hashed_file.os, "write", no_direct_write)
    elif request.param == "short writes":
        monkeypatch.setattr(hashed_file.os, "write", lambda descriptor, data: os_write(descriptor, data[:8192]))
    return str(request.param)


@pytest.mark.parametrize("size", SIZES)
def test_every_byte_arrives_and_the_digest_is_that_of_the_file(tmp_path: Path, size: int, file_system: str) -> None:
    content = os.urandom(size)
    digest = written(tmp_path / "file", content)
    assert (tmp_path / "file").read_bytes() == content
    assert digest == hashlib.sha256(content).hexdigest()


def test_whole_blocks_go_past_the_page_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    direct, os_write = [], os.write

    def note(descriptor: int, data: bytes) -> int:
        direct.append((len(data), bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT)))
        return os_write(descriptor, data)

    monkeypatch.setattr(hashed_file.os, "write", note)
    try:
        os.close(os.open(tmp_path / "probe", os.O_WRONLY | os.O_CREAT | os.O_DIRECT))
    except OSError:
        pytest.skip("this file system has no direct writes")
    written(tmp_path / "file", bytes(2 * BLOCK_BYTES + 5))
    assert direct == [(BLOCK_BYTES, True), (BLOCK_BYTES, True), (5, False)]


def test_a_full_disk_is_an_error_and_no_file_that_looks_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(hashed_file.os, "write", full)
    with pytest.raises(OSError) as caught:
        written(tmp_path / "file", bytes(BLOCK_BYTES))
    assert caught.value.errno == errno.ENOSPC
