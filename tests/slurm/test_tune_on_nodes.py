"""Trials as job arrays on the minicluster: a killed program and a killed job cost neither a trial nor an epoch."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import tests.tuning
from tests.slurm.conftest import Minicluster, until
from tests.tuning.campaign import epochs_of, every_job, program_of

from saman.runs.find import find_runs
from saman.runs.folder import RunFolder
from saman.slurm.submission.run_jobs import jobs_of

pytestmark = [pytest.mark.slurm, pytest.mark.tune, pytest.mark.slow]

STUDY = """
name: tuned-on-nodes
program:
  command: [PYTHON, curve.py, "{rate}", "{momentum}", "4", "2"]
  epochs: 4
  resources: {cpus_per_rank: 1, memory_per_rank: 200M, time_limit: "00:05:00"}
  launch: {directory: run}
space:
  rate: {low: 0.0001, high: 1.0, log: true}
  momentum: {low: 0.0, high: 0.95}
objective: {metric: val_loss, goal: minimize}
sampler: random
pruner: asha
trials: 5
concurrency: 3
"""


def test_killed_programs_and_jobs_cost_no_trial_and_no_epoch(minicluster: Minicluster) -> None:
    folder = minicluster.shared / "tuned"
    folder.mkdir()
    shutil.copy(Path(tests.tuning.__path__[0]) / "curve.py", folder)
    (folder / "study.yaml").write_text(STUDY.replace("PYTHON", sys.executable))
    command = [sys.executable, "-m", "saman", "tune", "study.yaml", "--cluster", "minicluster", "--partition", "main"]
    study = subprocess.Popen([*command, "--json"], cwd=folder, stdout=subprocess.PIPE, text=True)

    def going() -> list[RunFolder]:
        return [run for run in find_runs(folder / "runs") if len(run.attempts()) == 1 and program_of(run) is not None]

    until(lambda: len(going()) >= 2, 180)
    first, second = going()[:2]
    program = program_of(first)
    if program is not None:
        os.kill(program, signal.SIGKILL)
    minicluster.run("scancel", "--signal=KILL", "--full", jobs_of(second.events())[-1], check=False)
    out, _ = study.communicate(timeout=280)
    assert study.returncode == 0
    found = json.loads(out)

    runs = find_runs(folder / "runs")
    assert [trial["trial"] for trial in found["trials"]] == list(range(5))
    assert Counter(trial["run"] for trial in found["trials"]) == Counter(run.id for run in runs)
    assert {trial["outcome"] for trial in found["trials"]} <= {"complete", "pruned"}
    assert all("_" in every_job(run)[0] for run in runs)  # tasks of arrays
    for run in runs:
        assert epochs_of(run) == list(range(1, len(epochs_of(run)) + 1))
