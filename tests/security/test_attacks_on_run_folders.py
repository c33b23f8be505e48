"""Another user puts a run into a shared runs folder and waits for ``saman resume last`` of somebody else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.security.conftest import OtherUser

from saman.configs.schemas.script import Script
from saman.runs.folder import RunFolder


def saman(*words: str | Path, config: Path) -> subprocess.CompletedProcess[str]:
    """The command as its user types it."""
    environment = {**os.environ, "XDG_CONFIG_HOME": str(config)}
    environment.pop("SUDO_UID", None)
    command = [sys.executable, "-m", "saman", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)


@pytest.fixture
def trap(shared: Path, tmp_path: Path, attacker: OtherUser) -> RunFolder:
    """A run of the attacker, the newest in a shared folder of runs; its command leaves ``ran``."""
    ran = tmp_path / "ran"
    values = {"name": "demo", "command": ["touch", str(ran)], "directory": str(tmp_path)}
    run = RunFolder.create(shared / "runs", Script.model_validate(values))
    run.append("attempt_started", "supervisor", 1, ranks=1)
    run.append("failed", "supervisor", 1)
    for path in (shared / "runs", *(shared / "runs").rglob("*")):
        os.chown(path, attacker.uid, attacker.uid)
    return run


def test_resume_last_does_not_run_the_command_of_another_user(trap: RunFolder, tmp_path: Path) -> None:
    done = saman("resume", "last", "--runs-dir", trap.runs_dir, config=tmp_path / "config")
    assert done.returncode == 2 and "dubious ownership" in done.stderr and "safe" in done.stderr
    assert not (tmp_path / "ran").exists()


def test_cancel_does_not_signal_the_process_that_another_user_names(
    trap: RunFolder, attacker: OtherUser, tmp_path: Path
) -> None:
    lock = (
        "import fcntl, os, struct, sys, time\n"
        "lock = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)\n"
        "fcntl.fcntl(lock, fcntl.F_OFD_SETLK, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 0, 0))\n"
        "os.write(lock, sys.argv[2].encode())\nprint('ready', flush=True)\ntime.sleep(60)"
    )
    started = '{"schema": 1, "time": 1, "kind": "attempt_started", "who": "supervisor", "attempt": 2}'
    attacker.run("import sys; open(sys.argv[1], 'a').write(sys.argv[2] + '\\n')", trap.events_file, started)
    with subprocess.Popen(["sleep", "60"]) as victim:
        name = f"process {victim.pid} on {os.uname().nodename}\n"
        with attacker.start(lock, trap.supervisor_lock, name):
            done = saman("cancel", "last", "--runs-dir", trap.runs_dir, config=tmp_path / "config")
        assert done.returncode == 2 and "dubious ownership" in done.stderr
        assert victim.poll() is None
        victim.kill()


def test_a_listed_folder_is_resumed(trap: RunFolder, tmp_path: Path) -> None:
    settings = tmp_path / "config" / "saman" / "settings.yaml"
    settings.parent.mkdir(parents=True)
    settings.write_text(f"safe: [{trap.runs_dir}]\n")
    done = saman("resume", "last", "--runs-dir", trap.runs_dir, config=tmp_path / "config")
    assert "dubious" not in done.stderr
    assert (tmp_path / "ran").exists(), done.stderr
