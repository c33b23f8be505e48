"""Promises of an attempt inside a Slurm job: a full disk is a sentence and exit status 3, as on the login node."""

from __future__ import annotations

import errno
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from saman.configs import yaml12
from saman.configs.errors import EnvironmentLack, ExitCode
from saman.configs.problems import validated
from saman.configs.schemas.monitoring import Notify
from saman.configs.schemas.script import Script
from saman.launcher.attempts import AttemptRequest, make_attempt
from saman.launcher.plan import placement
from saman.launcher.planning import Options
from saman.launcher.supervision.run_lock import hold_run
from saman.launcher.supervision.signals import RecordedSignals
from saman.runs import folder
from saman.runs.folder import RunFolder
from saman.slurm.job import attempt, start
from saman.slurm.submission.run_jobs import record_queued

CLUSTER = {
    "name": "site",
    "partitions": [
        {"name": "cpu", "cores_per_node": 8, "max_nodes": 2, "max_time": "01:00:00", "memory_per_node": "16G"}
    ],
    "software": {"python": "/usr/bin/python3"},
    "mpi": {"start": "gloo"},
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunFolder]:
    """A run that Slurm has just started on this node."""
    values = {"name": "hello", "command": ["true"], "directory": str(tmp_path)}
    made = RunFolder.create(tmp_path / "runs", validated(Script, values, "a test"))
    (made.path / "slurm").mkdir()
    (made.path / "slurm" / "cluster.yaml").write_text(yaml12.dump(CLUSTER))
    record_queued(made, "7", "site", "submitter")
    for name, value in {"JOB_ID": "7", "JOB_NODELIST": "n1", "JOB_CPUS_PER_NODE": "2"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)}
    yield made
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_is_full_when_the_plan_is_recorded_ends_the_job_with_a_sentence(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(placement, "write_json", _full)
    assert start.main([str(run.path)]) == ExitCode.ENVIRONMENT
    printed = capsys.readouterr()
    assert "disk is full" in printed.out and str(run.path) in printed.out
    assert "Traceback" not in printed.out + printed.err
    end = run.events()[-1]
    assert (end.kind, end.facts["exit_code"]) == ("failed", ExitCode.ENVIRONMENT)


def test_somebody_is_told_that_a_job_could_not_begin(
    tmp_path: Path, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "told"
    spec = run.spec().model_copy(update={"notify": Notify(command=["/bin/sh", "-c", f"cat >>{told}"])})
    run.script_file.write_text(yaml12.dump(spec.written()))
    monkeypatch.setattr(placement, "write_json", _full)
    assert start.main([str(run.path)]) == ExitCode.ENVIRONMENT
    notification = json.loads(told.read_text())
    assert notification["occasion"] == "failure" and "disk is full" in notification["message"]


def test_a_job_that_finds_its_run_in_other_hands_adds_nothing_to_it(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(start, "LOCK_SECONDS", 0.0)
    monkeypatch.setattr(attempt, "LOCK_SECONDS", 0.0)
    for begun in (False, True):  # two jobs that begin at once, and one that begins while another is at work
        if begun:
            run.new_attempt()
            run.append("attempt_started", "supervisor", 1, ranks=1)
        before = run.events()
        with hold_run(run):
            assert start.main([str(run.path)]) == ExitCode.BAD_REQUEST
        assert run.events() == before and "this run is running" in capsys.readouterr().out


def test_a_disk_that_takes_no_event_any_more_ends_the_job_with_a_sentence_too(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(folder, "append_line", _full)
    assert start.main([str(run.path)]) == ExitCode.ENVIRONMENT
    printed = capsys.readouterr()
    assert "disk is full" in printed.out and "Traceback" not in printed.out + printed.err


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_an_attempt_refuses_in_the_same_words_here_and_in_a_job(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(placement, "write_json", refuse)
    with pytest.raises(EnvironmentLack) as here:
        make_attempt(
            run, AttemptRequest(run.script(), run.path, (), Options(run.path.parent.parent)), RecordedSignals()
        )
    assert start.main([str(run.path)]) == here.value.exit_code
    assert str(here.value) in capsys.readouterr().out
