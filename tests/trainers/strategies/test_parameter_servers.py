"""Asynchronous parameter servers in real processes: every step is counted, and a killed worker is survived."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from rank_starts import HERE, final
from training_cases import CASES

from saman.configs.loading.experiments import LoadedExperiment
from saman.configs.schemas.experiment import Experiment
from saman.launcher.local import run_locally
from saman.launcher.planning import Options
from saman.runs.events import State
from saman.runs.find import find_runs
from saman.runs.ranks import attempt_ranks

pytestmark = [pytest.mark.ranks, pytest.mark.slow, pytest.mark.keras(3)]

EPOCHS = 12
STEPS = 7 * EPOCHS
WORKER = 3  # rank 0 coordinates, rank 1 holds the variables


def asynchronous() -> Experiment:
    case = CASES["plain"]
    train = {**case["train"], "strategy": "parameter_server", "epochs": EPOCHS, "learning_rate": 0.05}
    return Experiment.model_validate(
        {**case, "name": "served", "train": train, "resources": {"ranks_per_node": 4, "cpus_per_rank": 1}}
    )


def kill_a_worker_that_has_worked(runs: Path, killed: list[int]) -> None:
    """Wait until the first epoch has ended, then kill a worker's program."""
    while not killed:
        time.sleep(0.1)
        for run in find_runs(runs):
            if any(event.kind == "epoch" for event in run.events()):
                record = attempt_ranks.read_record(run.attempt(1), WORKER)
                if record is not None and record.pid is not None:
                    os.kill(record.pid, signal.SIGKILL)
                    killed.append(record.pid)


def test_a_killed_worker_is_survived_and_no_step_is_lost(tmp_path: Path) -> None:
    killed: list[int] = []
    killer = threading.Thread(target=kill_a_worker_that_has_worked, args=(tmp_path / "runs", killed), daemon=True)
    killer.start()
    outcome = run_locally(
        LoadedExperiment(asynchronous(), HERE / "experiment.yaml", (HERE,)), Options(runs_dir=tmp_path / "runs")
    )
    assert outcome.state is State.COMPLETED, outcome.message
    assert killed
    events = outcome.run.events()
    ends = [event.facts for event in events if event.kind == "epoch"]
    assert [each["step"] for each in ends] == list(range(7, STEPS + 1, 7))
    assert ends[-1]["metrics"]["loss"] < ends[0]["metrics"]["loss"]
    said = [event.facts["text"] for event in events if event.kind == "notice"]
    assert any(text.startswith("rank 3 (a worker) is lost") for text in said)
    assert any("asynchronous" in text and "not the steps of a single rank" in text for text in said)
    state = final(outcome.run)
    assert int(state["optimizer/iterations"]) == STEPS
    assert (outcome.run.export / "export.json").is_file()
