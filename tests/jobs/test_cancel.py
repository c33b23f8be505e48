"""``saman cancel`` of runs on this machine, typed in another shell."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from saman.jobs.cancel import cancel_runs
from saman.runs.events import Event
from saman.runs.find import find_runs
from saman.runs.folder import RunFolder
from saman.slurm.submission.run_jobs import jobs_of, last_queued


def started(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    """``saman run`` in a shell of its own."""
    command = [sys.executable, "-m", "saman", "run", *words]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, condition
        time.sleep(0.1)


def typed(folder: Path, *words: str) -> str:
    command = [sys.executable, "-m", "saman", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=True).stdout


def happened(folder: Path, kind: str) -> bool:
    return any(event.kind == kind for run in find_runs(folder / "runs") for event in run.events())


@pytest.mark.ranks
def test_somebodys_program_is_ended(tmp_path: Path) -> None:
    shell = started(tmp_path, "-np", "1", "--", "sleep", "300")
    try:
        until(lambda: happened(tmp_path, "rank_started"))
        assert typed(tmp_path, "cancel", "last").endswith("is cancelled\n")
        assert shell.wait(timeout=20) == 130
    finally:
        shell.kill()
    assert find_runs(tmp_path / "runs")[0].state.value == "cancelled"
    assert "was cancelled already" in typed(tmp_path, "cancel", "last")


@pytest.mark.tensorflow
def test_training_is_ended_with_a_checkpoint(tmp_path: Path) -> None:
    words = ["train.strategy=single", "train.epochs=5000", "publish=null"]
    shell = started(tmp_path, "quickstart", "-np", "1", *words)
    try:
        until(lambda: happened(tmp_path, "epoch"))
        assert "is cancelled, with a checkpoint" in typed(tmp_path, "cancel", "quickstart")
        assert shell.wait(timeout=20) == 85
    finally:
        shell.kill()
    (run,) = find_runs(tmp_path / "runs")
    assert run.state.value == "cancelled" and any(run.checkpoints.iterdir())


def test_a_run_that_nobody_is_at_work_on_any_more_is_cancelled(tmp_path: Path) -> None:
    from saman.configs.loading.experiments import load_experiment

    run = RunFolder.create(tmp_path / "runs", load_experiment("quickstart", []).experiment)
    run.append("attempt_started", "supervisor", 1, pid=os.getpid(), host=socket.gethostname())
    assert list(cancel_runs([run])) == [f"{run.id} is cancelled; its processes had all exited"]
    assert run.state.value == "cancelled"


def test_a_run_taken_away_from_slurm_has_no_job_until_it_is_submitted_again() -> None:
    events = [Event("queued", "submitter", facts={"job": "7"}), Event("follow_ups", "submitter", facts={"jobs": ["8"]})]
    assert jobs_of(events) == ["7", "8"]
    events.append(Event("taken_here", "user"))
    assert jobs_of(events) == [] and last_queued(events) is None
    events.append(Event("queued", "submitter", facts={"job": "9"}))
    assert jobs_of(events) == ["9"]
