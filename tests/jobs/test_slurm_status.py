"""The status of a run whose Slurm job left no record of its end."""

from __future__ import annotations

from pathlib import Path

from saman.configs.problems import validated
from saman.configs.schemas.script import Script
from saman.jobs.slurm_view import SlurmView
from saman.jobs.status import RunStatus, status_of
from saman.runs.folder import RunFolder
from saman.slurm.site.client import RecordedJob
from saman.slurm.site.job_states import JobState
from saman.slurm.submission.run_jobs import record_queued

SPEC = validated(Script, {"name": "x", "command": ["true"], "directory": "/"}, "x")


def _seen(run: RunFolder, quiet: float, view: SlurmView) -> RunStatus:
    """Where the run stands ``quiet`` seconds after its last event."""
    events = run.events()
    return status_of(run, events, view, events[-1].time + quiet)


def test_a_job_that_slurm_no_longer_knows_has_vanished_once_it_has_been_silent_for_long(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, SPEC)
    record_queued(folder, "7", "site", "submitter")
    folder.append("attempt_started", "supervisor", 1)
    nothing = SlurmView({}, {}, reachable=True)
    assert _seen(folder, 30, nothing).state == "running"  # squeue lags too
    vanished = _seen(folder, 200, nothing)
    assert vanished.state == "vanished" and vanished.over and "no longer knows job 7" in vanished.detail
    away = _seen(folder, 200, SlurmView({}, None, reachable=False))
    assert away.state == "running" and "cannot be asked from here" in away.detail


def test_accounting_that_lags_behind_the_end_of_a_job_is_waited_for(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, SPEC)
    record_queued(folder, "7_1", "site", "submitter")
    folder.append("attempt_started", "supervisor", 1)

    def recorded(state: JobState) -> SlurmView:
        return SlurmView({}, {"7_1": RecordedJob("7_1", state, 1, 0, None, "n1")}, reachable=True)

    lagging = _seen(folder, 200, recorded(JobState.RUNNING))  # not in squeue any more
    assert (lagging.state, lagging.detail) == ("running", "job 7_1 is ending")
    assert _seen(folder, 5, recorded(JobState.FAILED)).state == "running"  # the job's last events may still come
    ended = _seen(folder, 200, recorded(JobState.FAILED))
    assert (ended.state, ended.exit_code) == ("failed", 1)
    assert "preempted and not requeued" in _seen(folder, 200, recorded(JobState.PREEMPTED)).detail
