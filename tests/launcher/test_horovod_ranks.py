"""Real Horovod ranks, more than there are cores: they exchange, one is killed, and the others are no suspects."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from ranks import Ranks, Seen, wait_for

from saman.launcher.planning import gather_facts
from saman.launcher.starters.start import MachineFacts
from saman.launcher.supervision import processes
from saman.runs.events import State

pytestmark = [pytest.mark.ranks, pytest.mark.tensorflow, pytest.mark.slow]

PROGRAM = """
import os, signal
import horovod.tensorflow as hvd
import tensorflow as tf
hvd.init()
for step in range(200):
    total = hvd.allreduce(tf.fill([4], float(hvd.rank())), op=hvd.Sum, name=f"step{step}")
    if step == 20:
        print("rank", hvd.rank(), "of", hvd.size(), "sum", total.numpy()[0], "gloo", hvd.gloo_enabled(), flush=True)
    if step == 50 and hvd.rank() == 2:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def facts() -> MachineFacts:
    found = gather_facts()
    if found.horovod is None:
        pytest.skip("Horovod is not installed here")
    return found


@pytest.mark.parametrize("starter", ["processes", pytest.param("mpirun", marks=pytest.mark.mpi)])
def test_the_killed_one_of_four_ranks_is_the_only_suspect(tmp_path: Path, facts: MachineFacts, starter: str) -> None:
    if starter == "mpirun" and not facts.horovod_speaks_mpi:
        pytest.skip("Horovod and an MPI of its kind are not both here")
    ranks, view = Ranks(tmp_path), Seen()
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3"}
    outcome = ranks.run(PROGRAM, ranks=4, starter=starter, facts=facts, view=view, environment=environment)
    gloo = starter == "processes"
    said = sorted(text for _, text in view.lines if text.startswith("rank "))
    assert said == [f"rank {rank} of 4 sum 6.0 gloo {gloo}" for rank in range(4)]
    assert outcome.state is State.FAILED and outcome.failure is not None, outcome
    assert [(failed.rank, failed.signal) for failed in outcome.failure.first] == [(2, 9)]
    assert ranks.nobody_is_left(seconds=0.5)


def _rendezvous(port_file: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "saman.trainers.rendezvous", "--port-file", str(port_file), *options, "here:2"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def test_a_taken_port_is_said_and_a_free_one_is_found(tmp_path: Path, facts: MachineFacts) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with _rendezvous(tmp_path / "port.json", "--bind", "127.0.0.1", "--port", str(port)) as refused:
            assert refused.wait(timeout=60) == 3
            assert refused.stderr is not None
            assert f"cannot listen on 127.0.0.1 port {port}: Address already in use" in refused.stderr.read()
        with _rendezvous(tmp_path / "port.json", "--bind", "127.0.0.1") as serving:
            wait_for((tmp_path / "port.json").exists)
            said = json.loads((tmp_path / "port.json").read_text())
            assert said["host"] == "127.0.0.1" and said["port"] != port
            serving.terminate()
            assert serving.wait(timeout=10) == 0
    assert not (tmp_path / "port.json").exists()


def test_the_rendezvous_ends_with_its_parent(tmp_path: Path, facts: MachineFacts) -> None:
    argv = [sys.executable, "-m", "saman.trainers.rendezvous", "--port-file", str(tmp_path / "port.json"), "here:2"]
    parent = f"import subprocess, time; subprocess.Popen({argv!r}); time.sleep(300)"
    with subprocess.Popen([sys.executable, "-c", parent]) as process:
        wait_for((tmp_path / "port.json").exists)
        pid = json.loads((tmp_path / "port.json").read_text())["pid"]
        process.kill()
    gone = _ends(pid, seconds=10)
    if not gone:
        os.kill(pid, signal.SIGKILL)
    assert gone, "the rendezvous outlived its parent"


def _ends(pid: int, seconds: float) -> bool:
    """Whether a process ends within the time; a zombie counts as ended."""
    wait_for(lambda: (seen := processes.find_process(pid)) is None or seen.state == "Z", seconds, must=False)
    seen = processes.find_process(pid)
    return seen is None or seen.state == "Z"
