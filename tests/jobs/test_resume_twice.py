"""Of two resumes of a run from Slurm, one submits a job."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from saman.configs.errors import UserError
from saman.configs.schemas.script import Script
from saman.jobs import resume
from saman.jobs.status import RunState, RunStatus
from saman.launcher.supervision.run_lock import RunHeldError, hold_run
from saman.runs.folder import RunFolder
from saman.slurm.submission.run_jobs import record_queued


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A failed run from Slurm; whoever submits it is noted."""
    spec = Script.model_validate({"name": "hello", "command": ["true"], "directory": str(tmp_path)})
    made = RunFolder.create(tmp_path / "runs", spec)
    made.slurm.cluster.parent.mkdir()
    made.slurm.cluster.write_text("name: site\n")
    record_queued(made, "7", "site", "submitter")
    made.append("failed", "supervisor", 1)
    monkeypatch.setattr(resume, "resubmit", lambda run, *_: record_queued(run, "9", "site", "submitter"))
    return made


def failed(runs: Sequence[RunFolder]) -> list[RunStatus]:
    return [RunStatus(str(run.path), run.id, "hello", RunState.FAILED, "", 1) for run in runs]


def test_the_second_of_two_resumes_at_once_submits_nothing(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def failed_before_the_other_submits(runs: Sequence[RunFolder]) -> list[RunStatus]:
        record_queued(run, "8", "site", "submitter")
        return failed(runs)

    monkeypatch.setattr(resume, "reconcile", failed_before_the_other_submits)
    with pytest.raises(UserError, match="this run is queued: job 8"):
        list(resume.resume_runs([run]))
    assert [event.facts["job"] for event in run.events() if event.kind == "queued"] == ["7", "8"]


def test_a_run_that_begins_again_here_is_not_submitted(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "reconcile", failed)
    with hold_run(run), pytest.raises(RunHeldError):
        list(resume.resume_runs([run]))
    assert len(list(resume.resume_runs([run]))) == 1
    assert [event.facts["job"] for event in run.events() if event.kind == "queued"] == ["7", "9"]
