"""An attacker with a user id of its own, and a folder that everyone may write to, as ``/tmp`` of a login node."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ATTACKER = 64301  # no account has it


@dataclass(frozen=True)
class OtherUser:
    """Runs programs of the standard library as another user, without any of the caller's rights."""

    uid: int

    @contextmanager
    def start(self, program: str, *arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
        """Start a Python program, which prints a line when it is ready; it is killed at the end."""
        process = self._popen(program, *arguments)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def run(self, program: str, *arguments: str | Path) -> None:
        """Run a Python program to its end."""
        process = self._popen(program + "\nprint('ready', flush=True)", *arguments)
        assert process.wait(30) == 0

    def _popen(self, program: str, *arguments: str | Path) -> subprocess.Popen[str]:
        # -I: not this environment, which the other user may not be able to read.
        command = ["/usr/bin/env", "python3", "-I", "-c", program, *map(str, arguments)]
        process = subprocess.Popen(
            command, user=self.uid, group=self.uid, extra_groups=[], cwd="/", text=True, umask=0o022,
            stdout=subprocess.PIPE, env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent"},
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", "the attack did not begin"
        return process


@pytest.fixture
def attacker() -> OtherUser:
    """Another user of the machine; only root can act as another user."""
    if os.geteuid() != 0:
        pytest.skip("only root can act as another user")
    if not shutil.which("python3", path="/usr/local/bin:/usr/bin:/bin"):
        pytest.skip("no python3 that another user can run")
    return OtherUser(ATTACKER)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder as ``/tmp``: everyone writes, and nobody removes what belongs to another."""
    folder = Path(tempfile.mkdtemp(prefix="saman-security-", dir="/tmp"))
    folder.chmod(0o1777)
    yield folder
    shutil.rmtree(folder)
