"""What a node does with a copy: private, whole or not there, used by several jobs, removed by the last."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from importlib import resources
from pathlib import Path

import pytest

STAMP = "environment-1-2"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "node" / "saman-1"


def _archive(path: Path, python: str = "#!/bin/sh\nexit 0\n", mode: int = 0o755, old: str = "/old/env") -> Path:
    files = {
        "env/bin/python3": (python, mode),
        "env/bin/tool": (f"#!{old}/bin/python\nprint(1)\n", 0o755),
        "env/pyvenv.cfg": ("home = @ENVIRONMENT@/base/bin\n", 0o644),
    }
    with tarfile.open(path, "w") as archive:
        for name, (text, bits) in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(text), bits
            archive.addfile(info, io.BytesIO(text.encode()))
    return path


def _node(action: str, root: Path, *more: object, job: str = "7", limit: str = "") -> subprocess.CompletedProcess[str]:
    script = (resources.files("saman.launcher.staging") / "node.sh").read_text()
    words = ["sh", "-c", limit + script, "node.sh", action, str(root), STAMP, job, *map(str, more)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def _unpack(root: Path, archive: Path, job: str = "7", limit: str = "") -> subprocess.CompletedProcess[str]:
    return _node("unpack", root, archive, "/old/env", "", "shared", job=job, limit=limit)


def test_a_copy_is_made_once_and_found_by_the_next_job(tmp_path: Path, root: Path) -> None:
    archive = _archive(tmp_path / "a.tar")
    assert _node("prepare", root).returncode == 10
    assert _unpack(root, archive).returncode == 0
    assert root.stat().st_mode & 0o777 == 0o700
    archive.unlink()
    assert _node("prepare", root, job="8").returncode == 0
    assert _unpack(root, archive, job="8").returncode == 0  # by a rank that comes late


def test_console_scripts_and_the_configuration_name_the_copy(tmp_path: Path, root: Path) -> None:
    _node("prepare", root)
    assert _unpack(root, _archive(tmp_path / "a.tar")).returncode == 0
    copy = root / STAMP
    assert (copy / "env/bin/tool").read_text().splitlines()[0] == f"#!{copy}/env/bin/python"
    assert (copy / "env/pyvenv.cfg").read_text() == f"home = {copy}/base/bin\n"


def test_the_last_job_on_a_node_removes_the_copy_unless_it_is_to_stay(tmp_path: Path, root: Path) -> None:
    archive = _archive(tmp_path / "a.tar")
    for job in ("7", "8"):
        _node("prepare", root, job=job)
        _unpack(root, archive, job=job)
    assert _node("release", root, "remove", job="7").returncode == 0
    assert (root / STAMP / "ready").is_file()  # job 8 still uses it
    assert _node("release", root, "remove", job="8").returncode == 0
    assert not (root / STAMP).exists()
    _node("prepare", root)
    _unpack(root, archive)
    _node("release", root, "keep")
    assert (root / STAMP / "ready").is_file()


@pytest.mark.parametrize("planted", ["open", "link"])
def test_a_folder_that_others_could_fill_is_refused(tmp_path: Path, root: Path, planted: str) -> None:
    root.parent.mkdir()
    if planted == "open":
        root.mkdir(mode=0o755)
        root.chmod(0o755)
    else:
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        root.symlink_to(tmp_path / "elsewhere")
    done = _node("prepare", root)
    assert done.returncode == 1
    assert "is not a private folder of yours" in done.stderr


@pytest.mark.parametrize(
    ("archive", "limit", "words"),
    [
        ({}, "ulimit -f 0\n", "the copy failed"),  # a full disk ends tar the same way
        ({"mode": 0o644}, "", "cannot run programs"),  # as on a file system without programs
        ({"python": "#!/bin/sh\nexit 1\n"}, "", "cannot run programs"),
    ],
)
def test_a_failed_copy_is_said_and_leaves_nothing(
    tmp_path: Path, root: Path, archive: dict[str, object], limit: str, words: str
) -> None:
    _node("prepare", root)
    done = _unpack(root, _archive(tmp_path / "a.tar", **archive), limit=limit)  # type: ignore[arg-type]
    assert done.returncode != 0
    assert words in done.stderr
    assert os.uname().nodename in done.stderr
    assert not (root / STAMP / "ready").exists()
    assert not (root / STAMP / "env").exists()


def test_a_part_that_a_failed_broadcast_left_is_not_used(tmp_path: Path, root: Path) -> None:
    _node("prepare", root)
    (root / f"{STAMP}.7.in").write_bytes(b"a part")
    assert _unpack(root, _archive(tmp_path / "a.tar")).returncode == 0
    assert not (root / f"{STAMP}.7.in").exists()


def test_a_plain_file_of_data_is_copied_under_its_name(tmp_path: Path, root: Path) -> None:
    (tmp_path / "x y.npz").write_bytes(b"values")
    _node("prepare", root)
    done = _node("unpack", root, tmp_path / "x y.npz", tmp_path / "x y.npz", "x y.npz", "shared")
    assert done.returncode == 0, done.stderr
    assert (root / STAMP / "data" / "x y.npz").read_bytes() == b"values"
