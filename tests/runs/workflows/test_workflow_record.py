"""The record of a submitted workflow: the newest is found by name and by file, and a torn record is passed over."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from saman.configs.errors import UserError
from saman.configs.problems import validated
from saman.configs.schemas.script import Script
from saman.jobs.selection import found_run, found_runs
from saman.runs.find import find_runs
from saman.runs.folder import RunFolder
from saman.runs.workflows.record import WorkflowRecord, WorkflowStep, all_workflows, find_workflow


def made(runs_dir: Path, *names: str) -> WorkflowRecord:
    runs = [
        RunFolder.create(runs_dir, validated(Script, {"name": n, "command": ["true"], "directory": "/"}, "test"))
        for n in names
    ]
    steps = [WorkflowStep(run.experiment_name, "program true", (), (f"{run.group.name}/{run.id}",)) for run in runs]
    return WorkflowRecord("flow", "flow.yaml", "mini", tuple(steps))


def test_a_workflow_stands_for_all_its_runs_in_the_order_of_its_steps(tmp_path: Path) -> None:
    record = made(tmp_path, "second", "first")
    record.write(tmp_path)
    assert find_workflow("flow", tmp_path) == record and all_workflows(tmp_path) == [record]
    assert [run.experiment_name for run in found_runs(["flow"], tmp_path)] == ["second", "first"]
    assert len(find_runs(tmp_path)) == 2  # the record is no run


def test_a_torn_record_is_passed_over_and_other_names_are_no_workflow(tmp_path: Path) -> None:
    record = made(tmp_path, "a")
    file = record.write(tmp_path)
    (file.parent / "99999999-999999-ffffff.json").write_text('{"schema": 1, "na')
    assert find_workflow("flow", tmp_path) == record
    assert find_workflow("other", tmp_path) is None and find_workflow("../flow", tmp_path) is None


def test_a_workflow_that_was_never_submitted_is_named(tmp_path: Path) -> None:
    file = tmp_path / "flow.yaml"
    file.write_text("name: flow\nsteps: {a: {program: [x]}}\n")
    with pytest.raises(UserError, match="never submitted"):
        found_runs([str(file)], tmp_path)


@pytest.mark.parametrize("text", ['{"steps": 5}', '{"steps": [{"runs": 7, "after": 3}]}', '{"steps": [4, null]}'])
def test_a_damaged_record_has_no_runs(tmp_path: Path, text: str) -> None:
    file = made(tmp_path, "a").write(tmp_path)
    file.write_text(text)
    assert found_runs(["flow"], tmp_path) == [] and len(all_workflows(tmp_path)) == 1


def test_a_record_names_no_run_outside_its_folder_of_runs(tmp_path: Path) -> None:
    record = made(tmp_path / "other", "a")
    outside = WorkflowStep("a", "program true", (), (f"../other/{record.steps[0].runs[0]}",))
    WorkflowRecord("flow", "flow.yaml", "mini", (outside,)).write(tmp_path / "runs")
    assert found_runs(["flow"], tmp_path / "runs") == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_record_of_another_user_names_none_of_the_readers_runs(tmp_path: Path) -> None:
    file = made(tmp_path, "a").write(tmp_path)
    os.chown(file, 64301, 64301)
    assert found_runs(["flow"], tmp_path) == []


def test_last_is_never_a_workflow_or_a_study(tmp_path: Path) -> None:
    record = made(tmp_path, "a", "b")
    WorkflowRecord("last", "flow.yaml", "mini", record.steps[:1]).write(tmp_path)
    (tmp_path / "last").mkdir()
    (tmp_path / "last" / "study.json").write_text('{"schema": 1}')
    assert [run.experiment_name for run in found_runs(["last"], tmp_path)] == ["b"]


def test_a_command_about_a_single_run_names_the_runs_of_a_workflow(tmp_path: Path) -> None:
    record = made(tmp_path, "second", "first")
    record.write(tmp_path)
    with pytest.raises(UserError, match="several runs") as refused:
        found_run("flow", tmp_path)
    assert all(run.rpartition("/")[2] in str(refused.value.remedy) for step in record.steps for run in step.runs)
    assert found_run("last", tmp_path).experiment_name == "first"
