"""A real hybrid study, from its YAML to the report and to predictions: three short runs of pipelines."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ranks, pytest.mark.slow]

STUDY = """
name: real-grid
experiment: quickstart
set:
  strategy: pipeline
  model.args.hidden: [32, 32]
  batch_size: 64
  micro_batches: 2
  train.epochs: 1
  train.max_steps: 12
  train.telemetry_window_steps: 2
  train.checkpoint: {every_epochs: 1, keep: 1}
  starter: processes
scaling: strong
axes: {stages: [1, 2], ranks: [1, 2]}
repeats: 1
"""


def _command(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "saman", *words], cwd=cwd, capture_output=True, text=True)


def test_a_real_grid_is_run_reported_and_predicted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "study.yaml").write_text(STUDY)
    ran = _command("study", "study.yaml", "--json", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert [run["state"] for run in json.loads(ran.stdout)["runs"]] == ["completed"] * 3
    told = json.loads(_command("report", "study.yaml", "-o", "out", "--no-papers", "--json", cwd=tmp_path).stdout)
    of_a_busy_machine = {"never_settled", "uneven_windows", "straggler"}
    assert {finding["kind"] for finding in told["findings"]} <= {"single_repeat", *of_a_busy_machine}
    cells = {(row["stages"], row["replicas"]): row for row in told["tables"]["grid"]}
    assert set(cells) == {(1, 1), (1, 2), (2, 1)}
    assert all(row["base"] == "pipeline stages 1 on 1 rank" for row in cells.values())
    split = [row for row in told["tables"]["stages"] if row["stages"] == 2]
    assert [row["stage"] for row in split] == [0, 1]
    for row in split:
        assert row["busy_seconds"] > 0
        assert row["transfer_seconds"] > 0
        assert 0 <= row["bubble_share"] < 1
        assert row["memory_over_start_bytes"] > 0
        assert row["predicted_memory_bytes"] > 0  # cut by the profile, as the run's notice says
        assert "dense" in row["layers"]
        assert 0 < row["pass_cpu_seconds"] <= row["busy_seconds"] * 1.5  # CPU time of the passes, on a core of its own
    words = ("predict", "study.yaml", "--ranks", "4,6", "--micro-batches", "2", "--stages", "2,3", "--json")
    predicted = _command(*words, cwd=tmp_path)
    if predicted.returncode == 2:  # three tiny cells on a busy machine: a refusal with its reason is right
        reasons = ("does not describe these runs", "would share")
        assert any(reason in " ".join(predicted.stderr.split()) for reason in reasons), predicted.stderr
        return
    found = json.loads(predicted.stdout)["pipelines"]
    places = {(row["stages"], row["replicas"]) for row in found["predictions"]}
    assert places <= {(2, 2), (3, 2)}  # three stages by the profile; 64 examples do not split over three replicas
    assert all(row["low"] < row["samples_per_second"] < row["high"] for row in found["predictions"])
