"""Reading the status of runs changes nothing; reconciling records the ends that only Slurm knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from saman.configs.loading.experiments import load_experiment
from saman.jobs import status, watch
from saman.jobs.reconcile import reconcile, wait_for_runs
from saman.jobs.slurm_view import SlurmView
from saman.jobs.status import RunState, read_status
from saman.runs.folder import RunFolder
from saman.slurm.site.client import RecordedJob
from saman.slurm.site.job_states import JobState
from saman.slurm.submission.run_jobs import record_queued


@pytest.fixture
def lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run whose job reached its time limit, and could not record that any more."""
    run = RunFolder.create(tmp_path / "runs", load_experiment("quickstart").experiment)
    record_queued(run, "7", "site", "submitter")
    run.append("attempt_started", "supervisor", 1)
    view = SlurmView({}, {"7": RecordedJob("7", JobState.TIMEOUT, 0, 15, None, "n1")}, reachable=True)
    for module in (status, watch):
        monkeypatch.setattr(module, "ask_slurm", lambda jobs: view)
    monkeypatch.setattr(status, "LATE_EVENT_SECONDS", -1.0)
    return run


def _files(run: RunFolder) -> dict[str, tuple[int, bytes]]:
    paths = [path for path in run.path.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


def test_reading_the_status_writes_nothing(lost: RunFolder) -> None:
    before = _files(lost)
    (found,) = read_status([lost])
    assert found.state is RunState.FAILED and "time limit" in found.detail
    assert _files(lost) == before


def test_reconciling_records_an_end_that_only_slurm_knows_once(lost: RunFolder) -> None:
    assert reconcile([lost])[0].state is RunState.FAILED
    end = lost.events()[-1]
    assert (end.kind, end.who, end.facts["job"]) == ("failed", "slurm", "7")
    before = _files(lost)
    reconcile([lost])
    assert _files(lost) == before


def test_a_folder_that_cannot_be_written_still_has_a_status(lost: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RunFolder, "append", full)
    assert wait_for_runs([lost])[0].state is RunState.FAILED


def test_waiting_ends_at_the_timeout(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, load_experiment("quickstart").experiment)
    (found,) = wait_for_runs([run], timeout_seconds=0.2, every_seconds=0.05)
    assert found.state is RunState.CREATED and not found.over
