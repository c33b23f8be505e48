"""File operations of the registry: what is linked or copied is the same file, and only plain files are taken."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from saman.configs.errors import EnvironmentLack, UserError
from saman.runs.files import disk
from saman.runs.files.write_errors import MODELS_OPTION, explain_write_errors


def test_a_digest_is_that_of_the_whole_file(tmp_path: Path) -> None:
    content = os.urandom((1 << 20) + 7)  # more than a block
    (tmp_path / "x").write_bytes(content)
    assert disk.digest_file(tmp_path / "x") == disk.Digest(hashlib.sha256(content).hexdigest(), len(content))


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EPERM, errno.EMLINK])
def test_where_no_link_is_possible_the_file_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    (tmp_path / "source").write_bytes(b"weights")
    disk.link_or_copy(tmp_path / "source", tmp_path / "linked")
    assert (tmp_path / "linked").samefile(tmp_path / "source")
    monkeypatch.setattr(Path, "hardlink_to", refuse)
    disk.link_or_copy(tmp_path / "source", tmp_path / "copied")
    assert (tmp_path / "copied").read_bytes() == b"weights"
    assert not (tmp_path / "copied").samefile(tmp_path / "source")


def test_a_link_that_fails_for_another_reason_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        disk.link_or_copy(tmp_path / "missing", tmp_path / "target")


def test_only_plain_files_are_listed_and_anything_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "b" / "c").mkdir(parents=True)
    for name in ("a", "b/x", "b/c/y"):
        (tmp_path / name).touch()
    assert [path.as_posix() for path in disk.regular_files(tmp_path)] == ["a", "b/c/y", "b/x"]
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(UserError, match="symbolic link"):
        list(disk.regular_files(tmp_path))


def test_removing_what_another_process_removed_is_no_error(tmp_path: Path) -> None:
    disk.remove_tree(tmp_path / "missing")
    (tmp_path / "here" / "below").mkdir(parents=True)
    disk.remove_tree(tmp_path / "here")
    assert not (tmp_path / "here").exists()


def test_names_are_unique() -> None:
    assert len({disk.unique_name() for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.ENOSPC, "prune"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "owner"),
        (errno.EIO, None),
    ],
)
def test_a_failed_write_says_where_and_what_to_do(tmp_path: Path, code: int, remedy: str | None) -> None:
    with pytest.raises(EnvironmentLack) as lack, explain_write_errors(tmp_path, "the models folder", MODELS_OPTION):
        raise OSError(code, os.strerror(code), str(tmp_path / "file"))
    assert lack.value.where == str(tmp_path / "file") and "the models folder" in lack.value.problem
    assert (remedy is None) == (lack.value.remedy is None)
    assert remedy is None or (remedy in str(lack.value.remedy))
    assert remedy is None or MODELS_OPTION in str(lack.value.remedy)
