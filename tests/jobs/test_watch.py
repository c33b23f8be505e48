"""Slurm is asked as rarely as the run folders allow."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from saman.configs.problems import validated
from saman.configs.schemas.script import Script
from saman.jobs.slurm_view import SlurmView
from saman.jobs.watch import RunWatch, folder_tells
from saman.launcher.plan.placement import Placement, Process
from saman.runs.folder import RunFolder
from saman.runs.ranks.heartbeats import Beat, write_beat
from saman.slurm.site.client import QueuedJob, RecordedJob
from saman.slurm.site.job_states import JobState
from saman.slurm.submission.run_jobs import record_queued

SPEC = validated(Script, {"name": "x", "command": ["true"], "directory": "/"}, "x")


class Slurm:
    """A queue with one job, and a clock; counts the questions."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.state = JobState.PENDING
        self.asked_at: list[float] = []

    def ask(self, jobs: Iterable[str]) -> SlurmView:
        (job,) = jobs
        self.asked_at.append(self.now)
        if self.state.ended:
            return SlurmView({}, {job: RecordedJob(job, self.state, 1, 0, None, "n1")}, reachable=True)
        return SlurmView({job: QueuedJob(job, self.state, "Priority", None, None, "", "p", "x")}, {}, reachable=True)


@pytest.fixture
def slurm() -> Slurm:
    return Slurm()


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = RunFolder.create(tmp_path, SPEC)
    record_queued(run, "7", "site", "submitter")
    return run


def begin(run: RunFolder, now: float) -> None:
    """The first attempt of the run shows a sign of life."""
    attempt = run.new_attempt()
    process = Process(index=0, node="n1", local_index=0, first_rank=0, ranks_here=1, cores=(0,), threads=1)
    Placement((process,), 1).write(attempt.placement)
    run.append("attempt_started", "supervisor", 1)
    write_beat(attempt.heartbeat(0), Beat("script", pid=1, time=now, alive=now))


def test_a_queued_run_is_asked_about_at_once_and_then_ever_less_often(slurm: Slurm, run: RunFolder) -> None:
    watch = RunWatch([run], slurm.ask, lambda: slurm.now)
    for _ in range(3600):  # an hour, a look a second
        assert watch.look()[0].state == "queued"
        slurm.now += 1
    waits = [later - earlier for earlier, later in zip(slurm.asked_at, slurm.asked_at[1:], strict=False)]
    assert slurm.asked_at[0] == 1000 and len(slurm.asked_at) < 75
    assert min(waits) >= 1 and max(waits) <= 60


def test_while_the_ranks_show_signs_of_life_slurm_is_not_asked(slurm: Slurm, run: RunFolder) -> None:
    watch = RunWatch([run], slurm.ask, lambda: slurm.now)
    watch.look()
    begin(run, time.time())
    asked = len(slurm.asked_at)
    for _ in range(50):
        slurm.now += 10
        (status,) = watch.look()
        assert status.state == "running" and not status.over
    assert len(slurm.asked_at) == asked
    run.append("completed", "supervisor", 1)
    assert watch.look()[0].state == "completed" and len(slurm.asked_at) == asked


def test_a_change_in_the_folder_asks_slurm_again_after_a_second(slurm: Slurm, run: RunFolder) -> None:
    watch = RunWatch([run], slurm.ask, lambda: slurm.now)
    for _ in range(100):
        slurm.now += 30
        watch.look()
    asked = len(slurm.asked_at)
    run.append("failed", "supervisor", 1, message="rank 0 failed")
    slurm.state = JobState.RUNNING  # the job looks whether a node is gone
    slurm.now += 1
    assert not watch.look()[0].over and len(slurm.asked_at) == asked + 1
    slurm.state = JobState.FAILED
    slurm.now += 2
    assert watch.look()[0].over


def test_silent_ranks_are_a_reason_to_ask(run: RunFolder) -> None:
    begin(run, time.time())
    assert folder_tells(run, run.events(), time.time())
    assert not folder_tells(run, run.events(), time.time() + 80)


def test_a_run_that_was_submitted_again_is_not_taken_for_ended(slurm: Slurm, run: RunFolder) -> None:
    watch = RunWatch([run], slurm.ask, lambda: slurm.now)
    begin(run, time.time())
    run.append("failed", "slurm")
    assert watch.look()[0].state == "failed"
    record_queued(run, "8", "site", "submitter")
    watch.forget(run)
    slurm.now += 0.1  # too soon to ask again
    assert not watch.look()[0].over
