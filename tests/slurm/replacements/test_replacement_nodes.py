"""Nodes in place of lost ones: asked for once, never left behind."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path

import pytest
from tests.slurm.job.test_restarts_on_nodes import experiment
from tests.slurm.runs import site
from tests.slurm.stubs import calls, stubs

from saman.configs.problems import validated
from saman.configs.schemas.cluster import Cluster
from saman.configs.schemas.experiment import Experiment
from saman.runs.folder import RunFolder
from saman.slurm.replacements.nodes import MOST_FAILURES, ReplacementNodes, give_back, holding_script, replacement_nodes

Open = Callable[..., AbstractContextManager[ReplacementNodes]]


def elastic(**keys: bool) -> Experiment:
    values = experiment(2).resolved()
    values["launch"]["elastic"] = {"min": 1, "max": 2, "replace_nodes": True, **keys}
    return validated(Experiment, values, "test")


def in_an_hour() -> str:
    return datetime.fromtimestamp(time.time() + 3600).strftime("%Y-%m-%dT%H:%M:%S")


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Slurm in which job 7 is the run's, and 8 is what it submits."""
    folder = tmp_path / "slurm"
    job = f"JobState=RUNNING Partition=main ExcNodeList=bad EndTime={in_an_hour()}"
    answer = f'[ "${{@: -1}}" = 7 ] && echo "{job}" || echo "JobState=$(cat {folder}/state) NodeList=n9"'
    commands = {"scontrol": answer, "sbatch": f"cat >{folder}/script; echo 8", "scancel": "", "squeue": ""}
    monkeypatch.setenv("PATH", stubs(folder, commands))
    (folder / "state").write_text("PENDING")
    return folder


@pytest.fixture
def open_owner(tmp_path: Path, slurm: Path) -> Open:
    run = RunFolder(tmp_path / "run")
    run.slurm.path.mkdir(parents=True)

    @contextlib.contextmanager
    def opened(cluster: Cluster | None = None) -> Iterator[ReplacementNodes]:
        with replacement_nodes(run, elastic(), cluster or site(), "7", lambda _: None) as owner:
            assert owner is not None
            yield owner

    return opened


def submissions(slurm: Path) -> Sequence[str]:
    return [line for line in calls(slurm) if line.startswith("sbatch")]


def test_one_node_is_asked_for_at_a_time_with_the_limits_of_the_job_and_not_among_its_nodes(
    open_owner: Open, slurm: Path
) -> None:
    with open_owner() as owner:
        owner.ask(["n1", "n2"])
        owner.ask(["n1", "n2"])
        (asked,) = submissions(slurm)
        assert {"--nodes=1", "--partition=main", "--time-min=1", "--no-requeue"} <= set(asked.split())
        minutes = int(next(word for word in asked.split() if word.startswith("--time=")).removeprefix("--time="))
        assert 50 <= minutes <= 60 and f"--deadline=now+{minutes}minutes" in asked
        assert asked.endswith("--exclude=n1,n2,bad")
        assert not owner.nodes()


def test_a_node_that_has_come_is_reached_through_its_job(open_owner: Open, slurm: Path) -> None:
    with open_owner() as owner:
        owner.ask([])
        (slurm / "state").write_text("RUNNING")
        assert (owner.nodes(), owner.is_fresh("n9"), owner.job_of("n9"), owner.job_of("n1")) == (
            {"n9": "8"},
            True,
            "8",
            "",
        )
        owner.use("n9")
        assert not owner.is_fresh("n9")
        owner.ask(["n9"])  # for another lost node
        assert len(submissions(slurm)) == 2


def test_no_job_is_left_behind_at_the_end_nor_after_an_error(open_owner: Open, slurm: Path) -> None:
    with pytest.raises(ZeroDivisionError), open_owner() as owner:
        owner.ask([])
        raise ZeroDivisionError
    assert calls(slurm)[-1] == "scancel 8"


def test_the_job_of_a_killed_supervisor_is_cancelled_by_the_next(open_owner: Open, slurm: Path) -> None:
    killed = open_owner()
    killed.__enter__().ask([])
    with open_owner():
        assert "scancel 8" in calls(slurm)
    with open_owner():
        assert calls(slurm).count("scancel 8") == 1


def test_a_job_that_slurm_ends_gives_its_replacements_back_before_its_supervisor_is_killed(
    tmp_path: Path, open_owner: Open, slurm: Path
) -> None:
    run = RunFolder(tmp_path / "run")
    give_back(run)  # has none
    killed = open_owner()
    owner = killed.__enter__()
    owner.ask([])
    run.stop_request.parent.mkdir()
    run.stop_request.write_text("{}")
    give_back(run)
    assert calls(slurm)[-1] == "scancel 8"
    (slurm / "state").write_text("CANCELLED")
    assert not owner.nodes()
    owner.ask([])
    assert len(submissions(slurm)) == 1  # nothing new for a run that is being stopped


def test_what_is_no_job_in_the_list_is_left_alone(tmp_path: Path, open_owner: Open, slurm: Path) -> None:
    jobs = RunFolder(tmp_path / "run").slurm.replacement_jobs
    jobs.write_text("--me\n8\n-u root\n")
    with open_owner():
        assert [call for call in calls(slurm) if call.startswith("scancel")] == ["scancel 8"]


def test_a_job_that_still_waits_is_cancelled_when_another_node_was_found(open_owner: Open, slurm: Path) -> None:
    with open_owner() as owner:
        owner.ask([])
        owner.release()
        assert calls(slurm)[-1] == "scancel 8"
        assert not owner.nodes()


def test_a_site_that_refuses_is_not_asked_for_ever(open_owner: Open, slurm: Path) -> None:
    (slurm / "sbatch").write_text(f'#!/bin/bash\necho "sbatch $*" >>{slurm}/calls\necho no >&2; exit 1\n')
    with open_owner() as owner:
        for _ in range(2 * MOST_FAILURES):
            owner.ask([])
    assert len(submissions(slurm)) == MOST_FAILURES


@pytest.mark.parametrize(
    ("spec", "cluster"),
    [
        (elastic(replace_nodes=False), site()),
        (experiment(2), site()),
        (elastic(), site(requeue={"by": "follow-up"})),  # compute nodes have no Slurm commands
    ],
)
def test_who_may_not_ask_has_no_replacement_nodes(
    tmp_path: Path, slurm: Path, spec: Experiment, cluster: Cluster
) -> None:
    with replacement_nodes(RunFolder(tmp_path / "run"), spec, cluster, "7", lambda _: None) as owner:
        assert owner is None


@pytest.mark.parametrize("silence", ["no file", "no change"])
def test_a_replacement_ends_by_itself_when_nobody_needs_it_any_more(tmp_path: Path, silence: str) -> None:
    beat = tmp_path / "it's needed"
    if silence == "no change":
        beat.write_text("1\n")
    done = subprocess.run(
        ["sh", "-c", holding_script(beat, silent_seconds=2, pause_seconds=1)], timeout=60, check=False
    )
    assert done.returncode == 0
