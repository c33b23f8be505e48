"""``saman tune`` on this machine with a real program: killed trials, a killed study, and the same command again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.tuning.campaign import epochs_of, program_of
from tests.tuning.curve import floor

from saman.runs.find import find_runs

pytestmark = [pytest.mark.tune, pytest.mark.slow]

STUDY = """
name: curve
program:
  command: [PYTHON, curve.py, "{rate}", "{momentum}", "6", "0.5"]
  epochs: 6
  resources: {cpus_per_rank: 1}
  launch: {directory: run}
space:
  rate: {low: 0.0001, high: 1.0, log: true}
  momentum: {low: 0.0, high: 0.95}
objective: {metric: val_loss, goal: minimize}
sampler: random
pruner: {name: asha, reduction_factor: 3}
trials: 6
concurrency: 3
seed: 3
"""


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    shutil.copy(Path(__file__).parents[1] / "curve.py", tmp_path)
    (tmp_path / "study.yaml").write_text(STUDY.replace("PYTHON", sys.executable))
    return tmp_path


def tune(folder: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "saman", "tune", "study.yaml", *words]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def result(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_nothing_is_lost_or_doubled_when_a_trial_and_the_study_are_killed(workplace: Path) -> None:
    runs = workplace / "runs"
    study = tune(workplace)
    until(lambda: any(epochs_of(run) for run in find_runs(runs)))
    killed = next(run for run in find_runs(runs) if epochs_of(run))
    program = program_of(killed)
    if program is not None:  # it may have ended just now
        os.kill(program, signal.SIGKILL)
    study.kill()
    study.communicate()

    found = result(tune(workplace, "--json"))
    assert [trial["trial"] for trial in found["trials"]] == list(range(6))
    assert {trial["outcome"] for trial in found["trials"]} <= {"complete", "pruned"}
    folders = find_runs(runs)
    assert Counter(trial["run"] for trial in found["trials"]) == Counter(run.id for run in folders)
    for run in folders:  # each epoch was trained once: starts go on from the checkpoint
        assert epochs_of(run) == list(range(1, len(epochs_of(run)) + 1))

    best = found["best"]
    lowest = min(found["trials"], key=lambda trial: floor(**trial["settings"]))
    assert best["trial"] == lowest["trial"]  # pruning did not lose the best point
    again = result(tune(workplace, "--json"))
    assert (again["trials"], len(find_runs(runs))) == (found["trials"], 6)

    pruned = next((trial for trial in found["trials"] if trial["outcome"] == "pruned"), None)
    if pruned is not None:
        more = result(tune(workplace, "--json", "--continue", str(pruned["trial"])))
        assert more["trials"][-1]["run"] == pruned["run"] and more["trials"][-1]["outcome"] == "complete"
        run = next(run for run in folders if run.id == pruned["run"])
        assert epochs_of(run) == list(range(1, 7))


def test_ctrl_c_leaves_no_process_behind(workplace: Path) -> None:
    study = tune(workplace)
    until(lambda: any(epochs_of(run) for run in find_runs(workplace / "runs")))
    study.send_signal(signal.SIGINT)
    study.communicate(timeout=120)
    assert study.returncode == 130
    assert [run for run in find_runs(workplace / "runs") if program_of(run) is not None] == []
    assert result(tune(workplace, "--json", "--set", "trials=3"))["outcomes"].keys() <= {"complete", "pruned"}


TRAINED = """
name: trained
experiment: quickstart
set: {train.strategy: single, resources.ranks_per_node: 1, resources.cpus_per_rank: 1, train.epochs: 2}
program:
  command: [PYTHON, curve.py, "{train.learning_rate.base}", "{train.optimizer.momentum}", "2", "0.1"]
  epochs: 2
  launch: {directory: run}
space:
  train.learning_rate.base: {low: 0.01, high: 0.1, log: true}
  train.optimizer.momentum: {low: 0.0, high: 0.9}
objective: {metric: val_loss, goal: minimize}
sampler: random
trials: 2
concurrency: 2
confirm: {seeds: [5, 6], publish: tuned, if: {metric: val_accuracy, at_least: 0.0}}
"""


@pytest.mark.tensorflow
def test_the_best_trial_is_trained_with_other_seeds_and_published_with_its_evidence(workplace: Path) -> None:
    (workplace / "study.yaml").write_text(TRAINED.replace("PYTHON", sys.executable))
    found = result(tune(workplace, "--json"))
    assert [each["seed"] for each in found["seeds"]] == [5, 6]
    runs = {run.id: run for run in find_runs(workplace / "runs")}
    rate = found["best"]["settings"]["train.learning_rate.base"]
    for seed in found["seeds"]:
        train = runs[seed["run"]].experiment().train
        assert (train.seed, train.learning_rate.base) == (seed["seed"], pytest.approx(rate)) and seed["value"] > 0
    version = Path(found["published"]["path"])
    evidence = json.loads((version / "assets.extra" / "saman.json").read_text())["tuning"]
    assert (evidence["trial"], evidence["trials"]) == (found["best"]["trial"], {"complete": 2})
    assert [each["value"] for each in evidence["seeds"]] == [each["value"] for each in found["seeds"]]
    assert min(found["seeds"], key=lambda each: each["value"])["run"] == found["published"]["run"]
    assert (version / "saved_model.pb").is_file()
    looked = result(tune(workplace, "--dry-run", "--json"))
    assert looked["seeds"] == found["seeds"] and looked["published"]["version"] == 1
