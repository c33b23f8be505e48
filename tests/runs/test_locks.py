"""Locks: exclusive and shared, waited for within a limit, gone with their process, and never disturbed by a probe."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from saman.configs.errors import UserError
from saman.launcher.supervision.run_lock import hold_run, is_supervised, supervisor_of
from saman.runs.folder import RunFolder
from saman.runs.locks import Holder, LockHeldError, acquire, hold, holder_of

_HOLD = """
import sys, time
from pathlib import Path
from saman.runs.locks import hold
with hold(Path(sys.argv[1]), shared=sys.argv[2] == "shared"):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def held_elsewhere(path: Path, kind: str = "exclusive") -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock."""
    command = [sys.executable, "-c", _HOLD, str(path), kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_held_lock_is_refused_and_its_holder_named(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "lock"
    with held_elsewhere(path) as other:
        with pytest.raises(LockHeldError) as refused:
            acquire(path)
        assert refused.value.holder == Holder(other.pid, socket.gethostname()) == holder_of(path)
        assert str(refused.value.holder) == f"process {other.pid} on {socket.gethostname()}"


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with held_elsewhere(path) as other:
        other.kill()
        other.wait()
        assert holder_of(path) is None
        acquire(path).release()


def test_shared_holders_exclude_exclusive_ones_only(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with held_elsewhere(path, "shared"):
        with hold(path, shared=True):
            assert holder_of(path) is not None
        with pytest.raises(LockHeldError):
            acquire(path)
    with held_elsewhere(path), pytest.raises(LockHeldError):
        acquire(path, shared=True)


def test_threads_of_a_process_exclude_each_other_and_a_second_look_releases_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with hold(path):
        path.read_text()  # closing this would release a POSIX lock
        with pytest.raises(LockHeldError):
            acquire(path)


def test_waiting_ends_when_the_lock_is_free_and_is_told_once(tmp_path: Path) -> None:
    path, told = tmp_path / "lock", list[Holder]()
    lock = acquire(path)
    threading.Timer(0.3, lock.release).start()
    with hold(path, wait_seconds=30, waiting=told.append):
        assert told == [Holder(os.getpid(), socket.gethostname())]
    lock = acquire(path)
    threading.Timer(0.3, lock.release).start()
    with hold(path, wait_seconds=None, waiting=told.append):
        assert len(told) == 2


def test_waiting_ends_at_its_limit(tmp_path: Path) -> None:
    began = time.monotonic()
    with hold(tmp_path / "lock"), pytest.raises(LockHeldError):
        acquire(tmp_path / "lock", wait_seconds=0.3)
    assert 0.3 <= time.monotonic() - began < 5


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("data")
    (tmp_path / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"):
        acquire(tmp_path / "lock")
    assert (tmp_path / "precious").read_text() == "data"


def test_a_planted_fifo_is_refused_at_once_and_holds_nothing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "lock")
    began = time.monotonic()
    with pytest.raises(OSError, match="no regular file"):
        acquire(tmp_path / "lock", wait_seconds=None)
    assert holder_of(tmp_path / "lock") is None
    assert time.monotonic() - began < 5


def test_the_permissions_of_a_lock_can_keep_others_from_taking_it(tmp_path: Path) -> None:
    acquire(tmp_path / "lock", mode=0o600).release()
    assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_not_there_is_held_by_nobody_and_not_made(tmp_path: Path) -> None:
    assert holder_of(tmp_path / "lock") is None
    assert list(tmp_path.iterdir()) == []


def test_probes_never_fail_a_real_start(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    (tmp_path / "control").mkdir()
    with hold_run(run):
        pass
    stop = tmp_path / "stop"
    program = (
        "import sys; from pathlib import Path\n"
        "from saman.launcher.supervision.run_lock import is_supervised; from saman.runs.folder import RunFolder\n"
        "run, stop, looks = RunFolder(Path(sys.argv[1])), Path(sys.argv[2]), 0\n"
        "print('probing', flush=True)\n"
        "while not stop.exists(): is_supervised(run); looks += 1\n"
        "print(looks)"
    )
    command = [sys.executable, "-c", program, str(tmp_path), str(stop)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as prober:
        assert prober.stdout is not None and prober.stdout.readline() == "probing\n"
        for _ in range(200):
            with hold_run(run):
                assert is_supervised(run)
            time.sleep(0.001)
        stop.touch()
        assert int(prober.stdout.readline()) > 200
    assert not is_supervised(run)


def test_a_second_supervisor_is_refused_or_waits(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    (tmp_path / "control").mkdir()
    with held_elsewhere(tmp_path / "control" / "supervisor") as other:
        with pytest.raises(UserError, match="this run is running"), hold_run(run):
            pass
        assert supervisor_of(run) == Holder(other.pid, socket.gethostname())
        threading.Timer(0.3, other.kill).start()
        with hold_run(run, wait_seconds=30):
            assert supervisor_of(run) == Holder(os.getpid(), socket.gethostname())


def test_no_other_module_takes_locks() -> None:
    root = Path(__file__).resolve().parents[2]
    rooms = [path for path in (root / "src" / "saman").iterdir() if path.is_symlink()]
    texts = {file: file.read_text("utf-8") for room in rooms for file in room.resolve().rglob("*.py")}
    found = [file for file, text in texts.items() if any(word in text for word in ("flock(", "lockf(", "OFD_"))]
    assert found == [root / "runs" / "locks.py"]
