"""Publishing after a run: a refusal is a decision, a failure is recorded, shown, and ends the job with 1."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from saman.configs.errors import ExitCode
from saman.configs.loading.experiments import load_experiment
from saman.jobs import status
from saman.jobs.publishing import PublicationState, main, publish_if_asked
from saman.jobs.reconcile import wait_for_runs
from saman.jobs.slurm_view import SlurmView
from saman.jobs.status import RunState, read_status
from saman.launcher.supervision.outcome import Outcome
from saman.registry.evaluation.gates import PublishRefusal
from saman.registry.lifecycle import publish as registry
from saman.runs.events import State
from saman.runs.folder import RunFolder
from saman.slurm.job import ending
from saman.slurm.job.allocation import Allocation
from saman.slurm.job.ending import Ending
from saman.slurm.site.client import RecordedJob
from saman.slurm.site.job_states import JobState
from saman.slurm.submission.run_jobs import record_queued

HERE = Allocation("7", "7", ("n1",), (2,), 0, 0)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A completed run that asks to be published, without an export."""
    made = RunFolder.create(
        tmp_path / "runs", load_experiment("quickstart").experiment, models_dir=str(tmp_path / "models")
    )
    made.append("attempt_started", "supervisor", 1)
    made.append("completed", "supervisor", 1)
    return made


def _exit_code(run: RunFolder) -> int:
    outcome = Outcome(run, 1, State.COMPLETED, 0, 1.0, "completed")
    return Ending(run, HERE, 3, (), lambda text: None).code(outcome)


def test_a_publication_that_fails_is_recorded_and_shown_by_status(run: RunFolder, tmp_path: Path) -> None:
    publication = publish_if_asked(run, tmp_path / "models")
    assert publication.state is PublicationState.FAILED and publication.exit_code != ExitCode.DONE
    event = run.events()[-1]
    assert event.kind == "publish_failed" and event.facts["reason"] == publication.reason
    (found,) = read_status([run])
    assert found.state is RunState.COMPLETED and found.exit_code == 1 and not found.succeeded
    assert publication.reason in found.detail and "saman models publish" in found.detail
    assert run.state is State.COMPLETED
    run.append("published", "registry", model="digits", version=1)
    assert read_status([run])[0].succeeded


def test_a_refusal_by_publish_if_is_no_failure(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PublishRefusal("not published: accuracy is 0.5", reason="accuracy is 0.5")

    monkeypatch.setattr(registry, "publish", refuse)
    publication = publish_if_asked(run, tmp_path / "models")
    assert publication.state is PublicationState.REFUSED
    assert publication.to_json() == {"not_published": "accuracy is 0.5"}
    assert main([str(run.path), str(tmp_path / "models")]) == 0
    assert "not published: accuracy is 0.5" in capsys.readouterr().out
    assert read_status([run])[0].succeeded


def test_a_job_whose_publication_fails_ends_with_1(run: RunFolder) -> None:
    assert _exit_code(run) == ExitCode.RUN_FAILED
    assert [event.kind for event in run.events()].count("publish_failed") == 1
    assert wait_for_runs([run])[0].exit_code == ExitCode.RUN_FAILED


def test_a_publisher_that_is_killed_leaves_an_event_all_the_same(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, -9)

    monkeypatch.setattr(ending, "run_command", killed)
    assert _exit_code(run) == ExitCode.RUN_FAILED
    assert run.events()[-1].kind == "publish_failed" and "-9" in run.events()[-1].facts["reason"]


def test_a_run_that_asks_for_nothing_ends_with_0(tmp_path: Path) -> None:
    made = RunFolder.create(tmp_path / "runs", load_experiment("quickstart", ["publish=null"]).experiment)
    made.append("completed", "supervisor", 1)
    assert _exit_code(made) == ExitCode.DONE
    assert publish_if_asked(made, tmp_path / "models").to_json() == {}


def test_a_job_that_publishes_is_waited_for(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    record_queued(run, "7", "site", "submitter")
    run.append("completed", "supervisor", 1)
    asked: list[set[str]] = []

    def view(state: JobState) -> Callable[[Iterable[str]], SlurmView]:
        def ask(jobs: Iterable[str]) -> SlurmView:
            asked.append(set(jobs))
            return SlurmView({}, {"7": RecordedJob("7", state, 0, 0, None, "n1")}, reachable=True)

        return ask

    monkeypatch.setattr(status, "ask_slurm", view(JobState.RUNNING))
    (publishing,) = read_status([run])
    assert (publishing.state, publishing.detail) == (RunState.RUNNING, "job 7: publishing")
    monkeypatch.setattr(status, "ask_slurm", view(JobState.COMPLETED))
    assert read_status([run])[0].state is RunState.COMPLETED
    run.append("published", "registry", model="digits", version=1)
    assert read_status([run])[0].state is RunState.COMPLETED
    assert asked == [{"7"}, {"7"}, set()]


def test_saman_status_and_wait_show_the_failed_publication(run: RunFolder, tmp_path: Path) -> None:
    publish_if_asked(run, tmp_path / "models")
    command = [sys.executable, "-m", "saman"]
    shown = subprocess.run([*command, "status", "last", "--json"], cwd=tmp_path, capture_output=True, text=True)
    (found,) = json.loads(shown.stdout)
    assert found["state"] == "completed" and found["exit_code"] == 1 and "publishing failed" in found["detail"]
    waited = subprocess.run([*command, "wait", "last"], cwd=tmp_path, capture_output=True, text=True)
    assert waited.returncode == 1
