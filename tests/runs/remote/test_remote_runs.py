"""Runs on clusters are found by the same names as runs here, and their records are not trusted blindly."""

from __future__ import annotations

from pathlib import Path

import pytest

from saman.configs.errors import UserError
from saman.configs.schemas.script import Script
from saman.runs.find import find_run
from saman.runs.folder import RunFolder
from saman.runs.paths.run import RunPaths
from saman.runs.remote.remote_runs import RemoteProject, RemoteRun, find_remote_run, remember, remote_runs

PROJECT = RemoteProject("site", "login", "saman", "/scratch/p-1")
OLD, NEW = "train/20200101-000000-000-aaaaaa", "train/20990101-000000-000-bbbbbb"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A run there, a run here, a newer run there."""
    spec = Script.model_validate({"name": "here", "command": ["true"], "directory": "/"})
    RunFolder.create(tmp_path / "runs", spec)
    remember(PROJECT, [OLD, NEW], tmp_path / "runs")
    return tmp_path / "runs"


def test_a_remembered_run_is_found_by_every_name(runs: Path) -> None:
    for text in ("last", "train", "2099", NEW.rpartition("/")[2], str(runs / NEW)):
        found = find_remote_run(text, runs)
        assert found is not None and found.run.id == NEW.rpartition("/")[2], text
        assert found.project == PROJECT and not found.complete
    assert [remote.run.experiment_name for remote in remote_runs(runs)] == ["train", "train"]


def test_a_run_of_this_machine_is_no_remote_run(runs: Path) -> None:
    assert find_remote_run("here", runs) is None
    assert find_remote_run("20", runs) is None  # several runs begin so


def test_a_command_that_needs_its_files_names_the_command_that_fetches_them(runs: Path) -> None:
    for text in ("train", "2099", "20200101"):
        with pytest.raises(UserError, match="is on a cluster") as refused:
            find_run(text, runs)
        assert "saman fetch 20" in str(refused.value.remedy)
    assert find_run("here", runs).experiment_name == "here"


def test_a_cluster_cannot_name_a_place_outside_the_runs(tmp_path: Path) -> None:
    names = ["../../x", "/etc/x", "a/..", "a/b/c", "a", "", ".code/x", "a/b\nc"]
    assert remember(PROJECT, names, tmp_path / "runs") == []
    assert not list(tmp_path.rglob("*.json"))


def test_a_record_that_others_may_write_is_refused(runs: Path) -> None:
    (runs / NEW / "remote.json").chmod(0o666)
    with pytest.raises(UserError, match="written by other users"):
        find_remote_run("last", runs)


@pytest.mark.parametrize(
    "text", ["{}", "torn", '{"host": "-oProxyCommand=x", "cluster": "c", "saman": "s", "folder": "/"}']
)
def test_a_damaged_record_names_no_cluster(runs: Path, text: str) -> None:
    (runs / NEW / "remote.json").write_text(text)
    assert RemoteRun.read(RunPaths(runs / NEW)) is None


def test_a_run_remembers_that_it_was_fetched_whole(runs: Path) -> None:
    found = find_remote_run("last", runs)
    assert found is not None
    found.with_complete(True)
    again = find_remote_run("last", runs)
    assert again is not None and again.complete


def test_the_record_of_another_user_stops_no_command_but_those_that_name_its_run(runs: Path) -> None:
    (runs / OLD / "remote.json").chmod(0o666)
    found = find_remote_run("last", runs)
    assert found is not None and found.run.id == NEW.rpartition("/")[2]
    assert find_remote_run("here", runs) is None and len(remote_runs(runs)) == 1
    with pytest.raises(UserError, match="written by other users"):
        find_remote_run("20200101", runs)


def test_a_cluster_cannot_take_a_run_of_this_machine_or_of_another_project(runs: Path) -> None:
    here = find_run("here", runs)
    other = RemoteProject("other", "elsewhere", "saman", "/scratch/p-2")
    assert remember(other, [OLD, f"here/{here.id}"], runs) == []
    assert not here.remote_file.exists() and find_remote_run("20200101", runs).project == PROJECT  # type: ignore[union-attr]


def test_an_empty_name_means_no_run(runs: Path) -> None:
    assert find_remote_run("", runs) is None
    with pytest.raises(UserError, match="empty"):
        find_run("", runs)
