"""Which code a command sends, and what of the cluster file and the environment goes with it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.jobs.remote.test_ssh_commands import cluster

from saman.configs import yaml12
from saman.configs.errors import UserError
from saman.configs.problems import validated
from saman.configs.schemas.cluster import Cluster
from saman.jobs.remote.project import cluster_text, local_project, referred_variables


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "my project;"
    (folder / "sub").mkdir(parents=True)
    for name in ("train.py", "weights.bin", "sub/my.yaml", "secret.env"):
        (folder / name).write_text(name)
    (folder / ".gitignore").write_text("*.env\n")
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    return folder


def test_all_code_goes_as_git_knows_it_and_the_directory_is_kept(project: Path) -> None:
    local = local_project(project / "sub", True, (), (), project / "runs")
    assert sorted(local.code.names()) == [".gitignore", "sub/my.yaml", "train.py", "weights.bin"]
    assert (local.directory, local.complete, local.code.left_out) == ("sub", True, ("secret.env",))


def test_without_code_only_the_experiment_goes(project: Path) -> None:
    local = local_project(project, False, (), [project / "sub" / "my.yaml"], project / "runs")
    assert (local.code.names(), local.complete) == (["sub/my.yaml"], False)
    outside = local_project(project, False, (), [Path("/etc/hostname")], project / "runs")
    assert outside.code.names() == []


def test_listed_code_goes_alone_and_removes_nothing_there(project: Path) -> None:
    local = local_project(project / "sub", True, [project / "sub" / "my.yaml"], (), project / "runs")
    assert (local.code.names(), local.complete) == (["sub/my.yaml"], False)


def test_the_folder_there_is_a_plain_name_that_differs_between_projects(project: Path, tmp_path: Path) -> None:
    name = local_project(project, False, (), (), project / "runs").name
    assert name.startswith("my-project-") and name.isascii() and "/" not in name and ";" not in name
    other = tmp_path / "other" / project.name
    other.mkdir(parents=True)
    assert local_project(other, False, (), (), other / "runs").name != name


def test_the_cluster_file_travels_without_access_and_means_the_same() -> None:
    site = cluster(account="physics", requeue={"attempts": 3})
    sent = validated(Cluster, yaml12.parse(cluster_text(site), "test"), "test")
    assert sent == site.model_copy(update={"access": None})


def test_only_the_variables_that_are_referred_to_leave_this_machine() -> None:
    values = {"launch": {"environment": {"API": "${env:API_KEY}", "MODE": "x"}}}
    assert referred_variables(values, {"API_KEY": "s3cret", "OTHER": "y"}) == {"API_KEY": "s3cret"}
    with pytest.raises(UserError, match="API_KEY, which is not set"):
        referred_variables(values, {})
