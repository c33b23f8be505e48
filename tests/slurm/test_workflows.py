"""Workflows on a cluster: all steps or nothing, in their order, cancelled and resumed as a whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.slurm.conftest import Minicluster, until
from tests.slurm.runs import saman, told, wait_for
from tests.slurm.stubs import calls, stubs

from saman.api.workflow_plans import plan_workflow, submit_workflow
from saman.configs.errors import UserError
from saman.configs.loading.clusters import load_cluster
from saman.jobs.selection import found_runs
from saman.runs.find import find_runs
from saman.runs.folder import RunFolder
from saman.runs.workflows.record import all_workflows
from saman.slurm.submission.run_submission import SubmissionOptions

FLOW = """
name: flow
steps:
  prepare: {program: [bash, -c, "echo data"], set: {name: prepare, resources.cpus_per_rank: 1}}
  left: {program: [bash, -c, "test -e go"], after: prepare, set: {name: left, resources.cpus_per_rank: 1}}
  right: {program: [bash, -c, "true"], after: prepare, set: {name: right, resources.cpus_per_rank: 1}}
  last: {program: [bash, -c, "true"], after: [left, right], set: {name: last, resources.cpus_per_rank: 1}}
"""
COUNTS = 'echo x >>"$(dirname "$0")/n"; echo $((100 + $(grep -c x "$(dirname "$0")/n")))'
REFUSES_THE_THIRD = """
echo x >>"$(dirname "$0")/n"; n=$(grep -c x "$(dirname "$0")/n")
if [ $n -eq 3 ]; then echo "sbatch: error: Invalid qos specification" >&2; exit 1; fi
echo $((100 + n))
"""


def options(folder: Path) -> SubmissionOptions:
    return SubmissionOptions(folder / "runs", partition="main", ignore_limits=True, copy_code=False)


def stubbed(folder: Path, monkeypatch: pytest.MonkeyPatch, sbatch: str) -> Path:
    (folder / "flow.yaml").write_text(FLOW)
    commands = {"sbatch": sbatch, "scontrol": "true", "scancel": "true", "squeue": "true", "sacct": "true"}
    monkeypatch.setenv("PATH", stubs(folder / "bin", commands))
    return folder / "bin"


def test_nothing_begins_before_every_job_is_queued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = stubbed(tmp_path, monkeypatch, COUNTS)
    planned = plan_workflow(tmp_path / "flow.yaml", load_cluster("minicluster"), options(tmp_path))
    submit_workflow(planned, options(tmp_path))
    made = [call for call in calls(commands) if call.startswith(("sbatch", "scontrol release"))]
    assert ["--hold" in call for call in made] == [True, False, False, False, False]
    assert "--dependency=afterok:101 --kill-on-invalid-dep=yes" in made[1]
    assert "--dependency=afterok:102:103 " in made[3] and made[4] == "scontrol release 101"
    assert [len(step.runs) for step in all_workflows(tmp_path / "runs")[0].steps] == [1, 1, 1, 1]


def test_a_refusal_in_the_middle_takes_everything_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = stubbed(tmp_path, monkeypatch, REFUSES_THE_THIRD)
    planned = plan_workflow(tmp_path / "flow.yaml", load_cluster("minicluster"), options(tmp_path))
    with pytest.raises(UserError, match="QOS"):
        submit_workflow(planned, options(tmp_path))
    made = calls(commands)
    assert "scancel 101 102" in made and not any("release" in call for call in made)
    assert find_runs(tmp_path / "runs") == [] and all_workflows(tmp_path / "runs") == []


def test_a_workflow_has_a_name_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "runs" / "flow").mkdir(parents=True)
    (tmp_path / "flow.yaml").write_text(FLOW)
    with pytest.raises(UserError, match="name of an experiment or study"):
        plan_workflow(tmp_path / "flow.yaml", load_cluster("minicluster"), options(tmp_path))
    (tmp_path / "flow.yaml").write_text(FLOW.replace("name: flow", "name: left"))
    with pytest.raises(UserError, match="also the name of a step"):
        plan_workflow(tmp_path / "flow.yaml", load_cluster("minicluster"), options(tmp_path))


def test_a_mistake_in_a_step_names_the_step(tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text("name: flow\nsteps: {train: {experiment: quikstart}}\n")
    with pytest.raises(UserError, match="step train"):
        plan_workflow(tmp_path / "flow.yaml", load_cluster("minicluster"), options(tmp_path))


def by_step(home: Path) -> dict[str, RunFolder]:
    return {run.experiment_name: run for run in found_runs(["flow"], home / "runs")}


def span(run: RunFolder) -> tuple[float, float]:
    events = [event for event in run.events() if event.attempt == len(run.attempts())]
    return events[0].time, run.events()[-1].time


@pytest.mark.slurm
def test_a_workflow_stops_at_a_failure_and_goes_on_from_there(minicluster: Minicluster) -> None:
    home = minicluster.shared / "workflow"
    home.mkdir()
    (home / "flow.yaml").write_text(FLOW)
    submit = ["submit", "flow.yaml", "--cluster", "minicluster", "--partition", "main", "--no-snapshot"]
    done = saman(home, *submit, "--json")
    assert done.returncode == 0, done.stderr
    assert [step["step"] for step in json.loads(done.stdout)["steps"]] == ["prepare", "left", "right", "last"]
    steps = by_step(home)
    assert wait_for(steps["left"]).state == "failed", told(steps["left"])
    assert wait_for(steps["last"]).state == "cancelled" and not steps["last"].attempts()
    assert wait_for(steps["right"]).state == "completed"
    status = saman(home, "status", "flow").stdout
    assert f"it needs left/{steps['left'].id}, which has failed" in status and "flow/last" in status
    (home / "go").touch()
    resumed = saman(home, "resume", "flow")
    assert resumed.stdout.count("continues it") == 2 and resumed.stdout.count("has completed") == 2, resumed.stderr
    assert saman(home, "wait", "flow", "--every", "0.5", "--timeout", "120").returncode == 0
    assert span(steps["last"])[0] >= span(steps["left"])[1] and len(steps["prepare"].attempts()) == 1


@pytest.mark.slurm
def test_a_workflow_is_cancelled_as_a_whole_and_not_submitted_twice(minicluster: Minicluster) -> None:
    home = minicluster.shared / "workflow-cancelled"
    home.mkdir()
    (home / "flow.yaml").write_text(FLOW.replace("echo data", "sleep 300"))
    submit = ["submit", "flow.yaml", "--cluster", "minicluster", "--partition", "main", "--no-snapshot"]
    assert saman(home, *submit).returncode == 0
    prepare = by_step(home)["prepare"]
    until(lambda: any(event.kind == "rank_started" for event in prepare.events()), 60)
    assert f"waits for prepare/{prepare.id} (running) to complete" in saman(home, "status", "flow").stdout
    again = saman(home, *submit)
    assert again.returncode == 2 and "is under way" in again.stderr
    assert saman(home, "cancel", "flow").stdout.count("is cancelled") == 4
    assert {wait_for(run).state for run in by_step(home).values()} == {"cancelled"}
