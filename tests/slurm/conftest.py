"""A minicluster of four nodes for all tests of a process."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from saman.configs.errors import EnvironmentLack
from saman.slurm import minicluster as shipped
from saman.slurm.site import client

NODES = 4


@dataclass(frozen=True)
class Minicluster:
    """The running cluster, and a folder that all its nodes share."""

    root: Path
    shared: Path

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command as a user of the cluster would."""
        return subprocess.run(command, capture_output=True, text=True, check=check, timeout=120)

    def down_node(self, node: str) -> None:
        """Let a node die, and the controller notice at once instead of after its time-out."""
        shipped.crash(node, self.root)
        self.run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=crashed-by-a-test")

    def up_node(self, node: str) -> None:
        """Bring a dead node back into service."""
        shipped.start(node, self.root)
        state = ""

        def is_back() -> bool:
            nonlocal state
            state = self.run("sinfo", "-h", "-n", node, "-o", "%T %E").stdout.strip()
            if state.startswith(("idle", "mixed", "allocated")):  # a job that waited for it may have it already
                return True
            self.run("scontrol", "update", f"NodeName={node}", "State=RESUME", check=False)  # refused while jobs end
            return False

        until(is_back, 120, every=1.0, told=lambda: f"{node} is {state}")


def until(
    condition: Callable[[], object], seconds: float, every: float = 0.25, told: Callable[[], object] = str
) -> None:
    """Wait for a condition; fail with its name, and what ``told`` adds, when it does not come true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"not within {seconds} s: {condition} {told()}")
        time.sleep(every)


@pytest.fixture(scope="session")
def minicluster() -> Iterator[Minicluster]:
    try:
        shipped.require_packages()
    except EnvironmentLack as lack:
        if os.environ.get("SAMAN_REQUIRE_SLURM"):
            pytest.fail(str(lack))
        pytest.skip(str(lack))
    root = Path(tempfile.mkdtemp(prefix="saman-mc-", dir="/tmp"))  # short: it holds sockets
    root.chmod(0o755)
    settings = {"SAMAN_MINICLUSTER_KILL_WAIT": "20", "SAMAN_MINICLUSTER_REQUEUE_WAIT": "5"}
    patch = pytest.MonkeyPatch()
    for name in [name for name in os.environ if name.startswith(("SLURM_", "SBATCH_"))]:
        patch.delenv(name)
    for name, value in settings.items():
        patch.setenv(name, value)
    try:
        with (Path(tempfile.gettempdir()) / f"saman-tests-{os.getuid()}.lock").open("w") as gate:
            fcntl.flock(gate, fcntl.LOCK_EX)  # free ports are looked for, then taken
            shipped.up(NODES, root)
        for name, value in shipped.environment(root).items():
            patch.setenv(name, value)
        shared = root / "shared"
        shared.mkdir()
        yield Minicluster(root, shared)
    finally:
        shipped.down(root)
        patch.undo()
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def no_jobs(minicluster: Minicluster) -> Iterator[Minicluster]:
    """The cluster with nothing running, before and after."""
    yield minicluster
    jobs = [job.id for job in client.queue().values() if not job.state.ended]
    if jobs:
        client.scancel(jobs)
        until(lambda: all(job.state.ended for job in client.queue().values()), 120)
