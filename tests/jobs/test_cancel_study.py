"""A study is cancelled with as few requests as it has arrays."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.slurm.stubs import calls, stubs

from saman.configs.problems import validated
from saman.configs.schemas.script import Script
from saman.jobs.cancel import cancel_runs
from saman.runs.folder import RunFolder
from saman.slurm.submission.run_jobs import record_follow_ups, record_queued

SPEC = validated(Script, {"name": "x", "command": ["true"], "directory": "/"}, "x")


def test_the_runs_of_an_array_are_cancelled_by_a_single_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = 'for i in {0..29}; do echo "40_$i|PENDING|N/A|N/A||main|Priority|x"; done'
    monkeypatch.setenv("PATH", stubs(tmp_path / "bin", {"squeue": queue, "sacct": "", "scancel": ""}))
    runs = [RunFolder.create(tmp_path / "runs", SPEC) for _ in range(30)]
    for index, run in enumerate(runs):
        record_queued(run, f"40_{index}", "site", "submitter")
    assert len(list(cancel_runs(runs))) == 30
    assert [call for call in calls(tmp_path / "bin") if call.startswith("scancel")] == ["scancel 40_[0-29]"]
    assert {run.state.value for run in runs} == {"cancelled"}


def test_follow_ups_are_cancelled_before_the_jobs_that_they_follow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", stubs(tmp_path / "bin", {"squeue": "", "sacct": "", "scancel": ""}))
    runs = [RunFolder.create(tmp_path / "runs", SPEC) for _ in range(2)]
    for index, run in enumerate(runs):
        record_queued(run, f"50_{index}", "site", "submitter")
        record_follow_ups(run, [f"6{index}", f"7{index}"])
    list(cancel_runs(runs))
    asked = [call for call in calls(tmp_path / "bin") if call.startswith("scancel")]
    assert asked == ["scancel 60 70 61 71", "scancel 50_[0-1]"]
