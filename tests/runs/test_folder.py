"""Promises of the run folder: ids that sort and never collide, numbered attempts, readers that accept torn files."""

import logging
import multiprocessing
import os

import pytest

from saman.configs.errors import EnvironmentLack, UserError
from saman.configs.loading.experiments import load_experiment
from saman.configs.schemas.script import Script
from saman.runs.events import State
from saman.runs.find import find_run, find_runs
from saman.runs.folder import RunFolder
from saman.runs.telemetry.window import Window, read_windows


@pytest.fixture
def experiment():
    return load_experiment("quickstart").experiment


def window(step):
    return Window(
        rank=0, ranks_here=1, size=1, step=step, steps=10, epoch=0, samples=80, seconds=1.0, input_wait_seconds=0.0
    )


def test_a_run_is_read_back_as_it_was_made(tmp_path, experiment):
    made = RunFolder.create(tmp_path, experiment, code_path=["/code"])
    run = RunFolder.open(made.path)
    assert run.experiment() == experiment
    assert run.code_path[0].as_posix() == "/code"
    assert run.state is State.CREATED
    assert not run.is_script


def test_a_script_run_is_read_back_as_it_was_made(tmp_path):
    script = Script(name="train", command=["python", "it's $(here).py", "--lr", "0.1\n"], directory="/tmp")
    run = RunFolder.create(tmp_path, script)
    assert RunFolder.open(run.path).spec() == script


def test_every_event_is_logged(tmp_path, experiment, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("saman"), "propagate", True)
    caplog.set_level(logging.INFO, "saman")
    run = RunFolder.create(tmp_path, experiment)
    run.append("cancelled", "submitter")
    events = [record.getMessage() for record in caplog.records if record.name == "saman.runs.folder"]
    assert events == [f"{run.id}: created by submitter", f"{run.id}: cancelled by submitter"]


def test_ids_sort_by_time_and_are_unique(tmp_path, experiment):
    runs = [RunFolder.create(tmp_path, experiment) for _ in range(50)]
    assert len({run.id for run in runs}) == 50
    stamps = [run.id.rsplit("-", 1)[0] for run in runs]
    assert stamps == sorted(stamps)


def _attempt(path):
    return RunFolder(path).new_attempt().number


def test_attempts_started_at_once_get_different_numbers(tmp_path, experiment):
    run = RunFolder.create(tmp_path, experiment)
    with multiprocessing.Pool(4) as pool:
        numbers = pool.map(_attempt, [run.path] * 20)
    assert sorted(numbers) == list(range(1, 21))
    assert [attempt.number for attempt in run.attempts()] == sorted(numbers)


def test_state_json_follows_the_events(tmp_path, experiment):
    run = RunFolder.create(tmp_path, experiment)
    run.append("attempt_started", "supervisor", 1)
    assert '"running"' in (run.path / "state.json").read_text()
    (run.path / "state.json").unlink()  # derived: losing it loses nothing
    assert run.state is State.RUNNING
    run.append("failed", "supervisor", 1, reason="rank 1 ended")
    assert run.state is State.FAILED
    assert '"failed"' in (run.path / "state.json").read_text()


def test_telemetry_of_a_killed_and_resumed_run_counts_each_step_once(tmp_path, experiment):
    from saman.runs.files.whole import append_line

    run = RunFolder.create(tmp_path, experiment)
    first, second = run.new_attempt(), run.new_attempt()
    for step in (10, 20, 30):
        append_line(first.telemetry(0), window(step).to_json())
    with first.telemetry(0).open("a") as torn:
        torn.write('{"schema":1,"ra')
    for step in (30, 40):
        append_line(second.telemetry(0), window(step).to_json())
    windows, dropped, repeated = read_windows(run, 0)
    assert [window.step for window in windows] == [10, 20, 30, 40]
    assert (dropped, repeated) == (1, 1)


def test_a_stop_can_be_asked_for_and_withdrawn(tmp_path, experiment):
    run = RunFolder.create(tmp_path, experiment)
    run.request_stop("time limit", "job script")
    assert run.stop_request.read_text() == "time limit\n"
    run.withdraw_stop()
    run.withdraw_stop()
    assert not run.stop_request.exists()


def test_a_run_is_found_by_path_id_beginning_experiment_or_last(tmp_path, experiment):
    first, second = (RunFolder.create(tmp_path, experiment) for _ in range(2))
    assert find_run("last", tmp_path).path == second.path
    assert find_run("quickstart", tmp_path).path == second.path
    assert find_run(first.id, tmp_path).path == first.path
    assert find_run(str(first.path), tmp_path).path == first.path
    assert [run.path for run in find_runs(tmp_path)] == [first.path, second.path]
    with pytest.raises(UserError, match="2 runs begin with '20'"):
        find_run("20", tmp_path)
    with pytest.raises(UserError, match="did you mean 'quickstart'"):
        find_run("quickstrat", tmp_path)
    with pytest.raises(UserError, match="there are no runs in"):
        find_run("last", tmp_path / "empty")
    with pytest.raises(UserError, match="not a run folder"):
        find_run(f"{tmp_path}/.", tmp_path)


def test_a_place_that_cannot_be_written_is_said_with_what_to_do(tmp_path, experiment):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(EnvironmentLack, match="cannot be written"):
        RunFolder.create(tmp_path / "file", experiment)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_of_somebody_else_is_said(tmp_path, experiment):
    tmp_path.chmod(0o500)
    with pytest.raises(EnvironmentLack, match="--runs-dir"):
        RunFolder.create(tmp_path, experiment)
