"""A study on a cluster: what is missing goes as arrays, and running it again submits nothing that is done."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.slurm.conftest import Minicluster
from tests.slurm.runs import told, wait_for

from saman.runs.find import find_runs

pytestmark = [pytest.mark.slurm, pytest.mark.ranks, pytest.mark.tensorflow, pytest.mark.slow]

STUDY = """
name: on-nodes
experiment: quickstart
set:
  train.epochs: 2
  ranks: 2
  resources.memory_per_rank: 1G
  resources.time_limit: "00:05:00"
scaling: strong
axes: {nodes: [1, 2]}
repeats: 1
cpus_per_rank: 1
concurrency: 1
base_ranks: 2
"""


def _study(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "saman", "study", "study.yaml", "--cluster", "minicluster", "--json", *words]
    return subprocess.run([*command, "--partition", "main"], cwd=folder, capture_output=True, text=True)


def test_a_study_goes_as_arrays_and_only_what_is_missing_goes_again(minicluster: Minicluster) -> None:
    folder = minicluster.shared / "study"
    folder.mkdir()
    (folder / "study.yaml").write_text(STUDY)
    first = _study(folder)
    assert first.returncode == 0, first.stderr
    jobs = [row["job"] for row in json.loads(first.stdout)["runs"]]
    assert len(jobs) == 2
    assert all("_" in job for job in jobs)  # tasks of arrays
    waiting = json.loads(_study(folder, "--dry-run").stdout)
    assert [row["state"] for row in waiting["runs"]] == ["waiting", "waiting"]
    assert json.loads(_study(folder).stdout)["runs"] == []
    for run in find_runs(folder / "runs"):
        assert wait_for(run, seconds=240).state == "completed", told(run)
        assert not run.export.exists()  # a study measures
    done = json.loads(_study(folder, "--dry-run").stdout)
    assert [row["state"] for row in done["runs"]] == ["done", "done"]
    assert json.loads(_study(folder).stdout)["runs"] == []
