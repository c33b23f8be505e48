"""A copied folder is whole under its name, or it is not there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from saman.runs.files.tree_copy import PARTIAL, copy_tree

LATER = 60.0


def results(folder: Path, files: int = 3) -> Path:
    (folder / "deep" / "er").mkdir(parents=True)
    for index in range(files):
        (folder / "deep" / "er" / f"part-{index}").write_bytes(bytes([index]) * 1000)
    (folder / "top.csv").write_text("a,b\n")
    return folder


def test_everything_arrives_and_the_source_is_gone(tmp_path: Path) -> None:
    source = results(tmp_path / "local")
    done = copy_tree(source, tmp_path / "node1", time.monotonic() + LATER)
    assert (done.whole, done.files, done.bytes) == (True, 4, 3004)
    assert (tmp_path / "node1/deep/er/part-2").read_bytes() == b"\2" * 1000
    assert not source.exists() and not (tmp_path / f"node1{PARTIAL}").exists()


def test_a_copy_that_runs_out_of_time_is_not_called_by_its_name(tmp_path: Path) -> None:
    source = results(tmp_path / "local")
    done = copy_tree(source, tmp_path / "node1", time.monotonic() - 1)
    assert not done.whole and done.problem is None
    assert not (tmp_path / "node1").exists() and (source / "top.csv").exists()
    assert copy_tree(source, tmp_path / "node1", time.monotonic() + LATER).whole  # a second try starts afresh


def test_links_are_left_out_and_counted(tmp_path: Path) -> None:
    source = results(tmp_path / "local")
    (source / "passwd").symlink_to("/etc/passwd")
    (source / "loop").symlink_to(source)
    os.mkfifo(source / "pipe")
    done = copy_tree(source, tmp_path / "node1", time.monotonic() + LATER)
    assert (done.whole, done.skipped) == (True, 3)
    assert sorted(path.name for path in (tmp_path / "node1").iterdir()) == ["deep", "top.csv"]


def test_a_copy_of_before_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "node1").mkdir()
    (tmp_path / "node1" / "old").touch()
    done = copy_tree(results(tmp_path / "local"), tmp_path / "node1", time.monotonic() + LATER)
    assert not done.whole and done.problem and (tmp_path / "node1" / "old").exists()
    assert (tmp_path / "local/top.csv").exists()


@pytest.mark.parametrize("wait", [0.0, 0.01, 0.05, 0.1])
def test_a_copy_that_is_killed_leaves_all_or_nothing_by_its_name(wait: float, tmp_path: Path) -> None:
    source = results(tmp_path / "local", files=200)
    program = "import sys, time; from pathlib import Path; from saman.runs.files.tree_copy import copy_tree; "
    program += "print(1, flush=True); copy_tree(Path(sys.argv[1]), Path(sys.argv[2]), time.monotonic() + 60)"
    command = [sys.executable, "-c", program, str(source), str(tmp_path / "node1")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
    if (tmp_path / "node1").exists():
        assert len(list((tmp_path / "node1/deep/er").iterdir())) == 200
    else:
        assert len(list((source / "deep/er").iterdir())) == 200
