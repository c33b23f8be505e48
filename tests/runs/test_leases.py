"""Where a file system has no locks, leases keep processes apart: on this machine at once, on others by a limit."""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from saman.configs.schemas.cluster import Cluster
from saman.configs.schemas.script import Script
from saman.launcher.supervision.run_lock import hold_run, is_supervised
from saman.runs import locks
from saman.runs.files import leases
from saman.runs.files.leases import LeaseRecord, lease_file, read_lease
from saman.runs.folder import RunFolder
from saman.runs.locks import Holder, LockHeldError, acquire, hold, holder_of
from saman.slurm.submission.job_script import environment_of

HOLD = """
import sys, time
from pathlib import Path
from saman.runs.locks import hold
with hold(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def held_elsewhere(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process of this machine with a lease."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "SAMAN_LOCKS": "lease"},
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.fixture
def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """fcntl as Lustre without ``-o flock`` answers it; short limits."""

    def fcntl(*_: object) -> bytes:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(locks.fcntl, "fcntl", fcntl)
    monkeypatch.setattr(locks, "_said", False)
    monkeypatch.setattr(leases, "LEASE_SECONDS", 0.6)
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.1)
    monkeypatch.setattr(leases, "_LOOK_SECONDS", 0.02)


def _elsewhere(path: Path, token: str = "theirs", count: int = 0) -> None:
    """The lease of a process on another node."""
    lease_file(path).write_bytes(LeaseRecord(4711, "another-node", token, 1, f"{count:012d}").text())


def test_a_lock_is_taken_and_released_where_there_are_no_locks_and_that_is_said_once(
    without_locks: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "lock"
    with caplog.at_level(logging.WARNING, "saman"):
        for _ in range(3):
            with hold(path):
                assert lease_file(path).exists()
                assert holder_of(path) == Holder(os.getpid(), socket.gethostname())
            assert not lease_file(path).exists() and holder_of(path) is None
    assert [record.levelname for record in caplog.records] == ["WARNING"] and "leases" in caplog.text


def test_two_threads_exclude_each_other(without_locks: None, tmp_path: Path) -> None:
    with hold(tmp_path / "lock"), pytest.raises(LockHeldError) as refused:
        acquire(tmp_path / "lock")
    assert refused.value.holder.pid == os.getpid()
    acquire(tmp_path / "lock").release()


def test_another_process_of_this_machine_is_refused_and_its_lease_is_free_when_it_is_killed(
    without_locks: None, tmp_path: Path
) -> None:
    path = tmp_path / "lock"
    with held_elsewhere(path) as other:
        with pytest.raises(LockHeldError) as refused:
            acquire(path)
        assert refused.value.holder == Holder(other.pid, socket.gethostname()) == holder_of(path)
        os.kill(other.pid, signal.SIGSTOP)
        time.sleep(1.0)  # longer than a lease: a stopped process keeps its lock, and so its lease
        with pytest.raises(LockHeldError):
            acquire(path)
        other.kill()
        other.wait()
        assert holder_of(path) is None
        acquire(path).release()


def test_a_process_id_that_is_used_again_holds_nothing(without_locks: None, tmp_path: Path) -> None:
    path = tmp_path / "lock"
    lease_file(path).write_bytes(LeaseRecord(os.getpid(), socket.gethostname(), "old", started=1).text())
    assert holder_of(path) is None
    acquire(path).release()


def test_a_holder_on_another_node_that_renews_is_respected(without_locks: None, tmp_path: Path) -> None:
    path, ended = tmp_path / "lock", threading.Event()

    def renew() -> None:
        count = 0
        while not ended.wait(0.1):
            count += 1
            _elsewhere(path, count=count)

    _elsewhere(path)
    thread = threading.Thread(target=renew)
    thread.start()
    try:
        for wait in (0.0, 1.5):
            with pytest.raises(LockHeldError) as refused:
                acquire(path, wait_seconds=wait)
            assert refused.value.holder == Holder(4711, "another-node")
    finally:
        ended.set()
        thread.join()


def test_the_lease_of_a_node_that_died_is_taken_over_by_exactly_one_process(
    without_locks: None, tmp_path: Path
) -> None:
    path = tmp_path / "lock"
    _elsewhere(path)
    held: list[locks.HeldLock] = []
    refused: list[LockHeldError] = []

    def take() -> None:
        try:
            held.append(acquire(path))
        except LockHeldError as error:
            refused.append(error)

    threads = [threading.Thread(target=take) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(held), len(refused)) == (1, 11)
    assert held[0].lease is not None and held[0].lease.is_held
    held[0].release()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["lock"]


def test_a_taker_that_was_killed_does_not_block_the_next(without_locks: None, tmp_path: Path) -> None:
    path = tmp_path / "lock"
    _elsewhere(path)
    lease_file(path).with_name(f"{lease_file(path).name}.theirs").touch()
    lock = acquire(path)
    assert lock.lease is not None and lock.lease.is_held
    lock.release()


def test_a_holder_whose_lease_was_taken_over_is_told_and_leaves_it_alone(without_locks: None, tmp_path: Path) -> None:
    path, told = tmp_path / "lock", threading.Event()
    lock = acquire(path, lost=told.set)
    draft = tmp_path / "draft"
    draft.write_bytes(LeaseRecord(4711, "another-node", "theirs", 1).text())
    draft.replace(lease_file(path))
    assert told.wait(5)
    lock.release()
    found = read_lease(path)
    assert found is not None and found.token == "theirs"


def test_it_works_where_there_are_no_links_either(
    without_locks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(leases.os, "link", link)
    with hold(tmp_path / "lock"), pytest.raises(LockHeldError):
        acquire(tmp_path / "lock")
    acquire(tmp_path / "lock").release()


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 5000, b'{"pid":"x"}'])
def test_a_torn_lease_is_taken_over(without_locks: None, tmp_path: Path, content: bytes) -> None:
    lease_file(tmp_path / "lock").write_bytes(content)
    lock = acquire(tmp_path / "lock")
    assert lock.lease is not None and lock.lease.is_held
    lock.release()


def test_a_run_has_one_supervisor_where_there_are_no_locks(without_locks: None, tmp_path: Path) -> None:
    script = Script.model_validate({"name": "s", "command": ["true"], "directory": str(tmp_path)})
    run = RunFolder.create(tmp_path / "runs", script)
    with hold_run(run):
        assert is_supervised(run)
        with pytest.raises(Exception, match="this run is running"), hold_run(run):
            pass
    assert not is_supervised(run)


def test_a_lock_respects_a_lease_on_a_node_where_locks_seem_to_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lustre with ``localflock``: locks hold on their node only. A login node may not know the cluster file."""
    path = tmp_path / "lock"
    with held_elsewhere(path):
        lease = lease_file(path)
        monkeypatch.delenv("SAMAN_LOCKS", raising=False)
        assert json.loads(lease.read_bytes())["host"] == socket.gethostname()
        with pytest.raises(LockHeldError):
            acquire(path)
    monkeypatch.setattr(leases, "LEASE_SECONDS", 0.3)
    _elsewhere(path)
    assert holder_of(path) == Holder(4711, "another-node")
    acquire(path).release()


def test_the_cluster_file_chooses_leases() -> None:
    values = {"name": "c", "partitions": [{"name": "p", "cores_per_node": 4}]}
    assert "SAMAN_LOCKS" not in environment_of(Cluster.model_validate(values))
    assert environment_of(Cluster.model_validate({**values, "locks": "lease"}))["SAMAN_LOCKS"] == "lease"


def test_a_lock_among_processes_of_this_machine_takes_no_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMAN_LOCKS", "lease")
    with hold(tmp_path / "core", this_machine=True):
        assert not lease_file(tmp_path / "core").exists()
    with hold(tmp_path / "run"):
        assert lease_file(tmp_path / "run").exists()
