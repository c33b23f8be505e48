"""A run whose supervisor was killed is known as dead at once, and is continued at once, with nothing left of it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from saman.configs.loading.experiments import load_experiment
from saman.configs.schemas.script import Script
from saman.jobs.resume import resume_runs
from saman.jobs.status import RunState, read_status
from saman.launcher.attempts import end_leftovers
from saman.launcher.supervision import processes
from saman.launcher.supervision.run_lock import hold_run
from saman.runs.events import State
from saman.runs.find import find_runs
from saman.runs.folder import RunFolder
from saman.runs.ranks.heartbeats import Beat, write_beat


def _dead_pid() -> int:
    done = subprocess.Popen(["true"])
    done.wait()
    return done.pid


def _running(folder: Path, host: str, pid: int) -> RunFolder:
    """A run of a supervisor ``pid`` on ``host``, with a heartbeat of this moment."""
    run = RunFolder.create(folder / "runs", load_experiment("quickstart", []).experiment)
    attempt = run.new_attempt()
    attempt.make_folders()
    run.append("attempt_started", "supervisor", attempt.number, pid=pid, host=host)
    write_beat(attempt.heartbeat(0), Beat("train", 3, 1, pid, time.time(), time.time()))
    return run


def _state(run: RunFolder) -> RunState:
    return read_status([run])[0].state


def test_a_run_without_its_supervisor_has_vanished_at_once(tmp_path: Path) -> None:
    assert _state(_running(tmp_path, socket.gethostname(), _dead_pid())) is RunState.VANISHED


@pytest.mark.parametrize("host", [socket.gethostname(), "another-node"])
def test_a_run_whose_supervisor_lives_or_cannot_be_seen_is_running(tmp_path: Path, host: str) -> None:
    pid = os.getpid() if host == socket.gethostname() else _dead_pid()
    assert _state(_running(tmp_path, host, pid)) is RunState.RUNNING


def test_a_run_that_is_held_is_running_whatever_its_recorded_process(tmp_path: Path) -> None:
    run = _running(tmp_path, socket.gethostname(), _dead_pid())
    with hold_run(run):
        assert _state(run) is RunState.RUNNING


def test_what_a_dead_attempt_left_is_killed_before_the_next(tmp_path: Path) -> None:
    run = _running(tmp_path, socket.gethostname(), _dead_pid())
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(300)"
    environment = {**os.environ, "SAMAN_RUN": str(run.path), "SAMAN_ATTEMPT": "1"}
    rank = subprocess.Popen([sys.executable, "-c", deaf], env=environment, stdout=subprocess.PIPE)
    try:
        assert rank.stdout is not None and rank.stdout.readline()
        began = time.monotonic()
        end_leftovers(run)
        assert rank.wait(timeout=1) == -signal.SIGKILL
        assert time.monotonic() - began < 3
    finally:
        rank.kill()
        rank.wait()


def test_a_later_process_with_the_id_of_an_earlier_one_is_not_signalled() -> None:
    """The id was reused between the look and the signal: the start time tells."""
    later = subprocess.Popen(["sleep", "300"])
    try:
        now = processes.find_process(later.pid)
        assert now is not None
        earlier = processes.ProcessInfo(now.pid, now.parent, now.state, now.started - 1)
        processes.signal_processes([earlier], signal.SIGKILL)
        time.sleep(0.2)
        assert later.poll() is None
        processes.signal_processes([now], signal.SIGKILL)
        assert later.wait(timeout=5) == -signal.SIGKILL
    finally:
        later.kill()
        later.wait()


@pytest.mark.ranks
def test_a_killed_saman_is_resumed_at_once(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("import os, time\nif os.environ['SAMAN_ATTEMPT'] == '1': time.sleep(300)\n")
    command = [sys.executable, "-m", "saman", "run", "-np", "1", "--", sys.executable, str(program)]
    saman = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        runs: list[RunFolder] = []
        while not (runs and any(event.kind == "rank_started" for event in runs[0].events())):
            assert time.monotonic() < deadline and saman.poll() is None
            time.sleep(0.1)
            runs = find_runs(tmp_path / "runs")
    finally:
        saman.kill()
        saman.wait()
    began = time.monotonic()
    (resumed,) = resume_runs(runs)
    assert resumed.finished is not None and resumed.finished.outcome.state is State.COMPLETED
    assert time.monotonic() - began < 30
    assert isinstance(runs[0].spec(), Script)
