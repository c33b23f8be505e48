"""A server's private folder ends with it; what a killed server left is removed by the next one of the same user."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from saman.serving.supervision.runtime_folder import RuntimeFolder

SERVER = """
import sys, time
from saman.serving.supervision.runtime_folder import RuntimeFolder
folder = RuntimeFolder()
(folder.path / "v1").mkdir()
print(folder.path, flush=True)
time.sleep(600)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


def test_only_this_user_may_enter_and_nothing_stays(place: Path) -> None:
    folder = RuntimeFolder()
    assert folder.path.parent == place and folder.path.stat().st_mode & 0o777 == 0o700
    folder.remove()
    assert not list(place.iterdir())


def test_what_a_killed_server_left_goes_and_a_running_one_keeps_its_folder(place: Path) -> None:
    processes = [subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        running, killed = (Path((process.stdout or sys.stdin).readline().strip()) for process in processes)
        processes[1].kill()
        processes[1].wait()
        assert (killed / "v1").is_dir()
        RuntimeFolder().remove()
        assert (running / "v1").is_dir() and not killed.exists()
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_what_is_no_folder_of_a_server_stays(place: Path) -> None:
    other = place / "other"
    (other / "precious").mkdir(parents=True)
    (other / "lock").touch()
    (place / "saman-serve-link").symlink_to(other)
    (place / "saman-serve-mine").mkdir()  # without the lock of a server
    RuntimeFolder().remove()
    assert (other / "precious").is_dir() and (place / "saman-serve-mine").is_dir()
