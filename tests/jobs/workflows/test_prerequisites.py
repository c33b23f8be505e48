"""What ``--after`` names: runs, studies and jobs, judged by their state before anything is submitted."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.slurm.stubs import stubs

from saman.configs.errors import UserError
from saman.configs.problems import validated
from saman.configs.schemas.script import Script
from saman.jobs.workflows.prerequisites import dependency_on, find_prerequisites
from saman.runs.folder import RunFolder
from saman.runs.records.run_events import After

STUDY = "name: curve\nexperiment: quickstart\nscaling: strong\naxes: {ranks: [1]}\nset: {batch_size: 64}\n"
QUEUE = 'echo "41|PENDING|N/A|N/A||main|Priority|first"; echo "50_0|RUNNING|N/A|N/A||main|None|many"'
ACCOUNTING = 'case "$*" in *7*) echo "7|COMPLETED|0:0|Unknown|n1";; *8*) echo "8|FAILED|1:0|Unknown|n1";; esac'


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of runs, beside a Slurm in which 41 is queued, an array 50 runs, 7 has completed and 8 has failed."""
    commands = {"squeue": QUEUE, "sacct": ACCOUNTING, "scontrol": "exit 1", "sbatch": "exit 1"}
    monkeypatch.setenv("PATH", stubs(tmp_path / "bin", commands))
    return tmp_path / "runs"


def made(runs: Path, *events: str) -> RunFolder:
    spec = validated(Script, {"name": "first", "command": ["true"], "directory": "/"}, "test")
    run = RunFolder.create(runs, spec)
    for kind in events:
        run.append(kind, "submitter", **({"job": "41"} if kind == "queued" else {}))
    return run


def test_a_queued_run_a_job_and_an_array_are_waited_for(runs: Path) -> None:
    run = made(runs, "queued")
    found = dependency_on([run.id, "50"], ["41"], runs)
    assert (found.ok_jobs, found.any_jobs) == (("41", "50"), ("41",))
    assert [each.condition for each in found.prerequisites] == [After.OK, After.OK, After.ANY]


def test_what_has_ended_well_needs_no_waiting(runs: Path) -> None:
    run = made(runs, "queued", "completed")
    assert dependency_on([run.id, "7"], ["8"], runs).options() == []


@pytest.mark.parametrize("name", ["8", "first"])
def test_what_has_ended_badly_is_refused_unless_any_end_will_do(runs: Path, name: str) -> None:
    made(runs, "queued", "failed")
    with pytest.raises(UserError, match="would never start"):
        dependency_on([name], (), runs)
    assert dependency_on((), [name], runs).options() == []


def test_an_unknown_job_a_local_run_and_a_wrong_name_are_refused(runs: Path) -> None:
    run = made(runs)
    for name, words in (("99", "knows no job 99"), (run.id, "on this machine"), ("frist", "no run is called 'frist'")):
        with pytest.raises(UserError, match=words):
            dependency_on([name], (), runs)


def test_a_study_without_all_its_runs_is_refused(runs: Path) -> None:
    made(runs, "queued")
    (runs.parent / "study.yaml").write_text(STUDY)
    with pytest.raises(UserError, match="no runs"):
        find_prerequisites([str(runs.parent / "study.yaml")], After.OK, runs)
