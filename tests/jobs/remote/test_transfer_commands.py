"""rsync's command lines: what goes, what comes, and what never does."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.slurm.stubs import stubs

from saman.configs.errors import EnvironmentLack
from saman.jobs.remote.transfer import pull_command, push_command, require_rsync
from saman.runs.paths.run import RunPaths
from saman.runs.remote.remote_runs import RemoteProject, RemoteRun
from saman.slurm.code.files import CodeFiles

PROJECT = RemoteProject("site", "login", "saman", "/scratch/a b;$(x)/p-1")
REMOTE = RemoteRun(RunPaths(Path("/home/ada/runs/fashion/20260101-1")), PROJECT)


def test_code_goes_by_name_and_removes_nothing() -> None:
    command = push_command(CodeFiles(Path("/home/ada/x"), ()), PROJECT, "ssh -T")
    assert command[-3:] == ["--", "/home/ada/x/", "login:/scratch/a b;$(x)/p-1/code/"]
    assert "--secluded-args" in command  # the other side's shell does not see the path
    assert {"--files-from=-", "--from0"} <= set(command)
    assert not [word for word in command if word.startswith("--delete")]


@pytest.mark.parametrize("checkpoints", [False, True])
def test_only_folders_and_regular_files_come_and_nothing_private(checkpoints: bool) -> None:
    command = pull_command(REMOTE, "ssh -T", checkpoints)
    assert command[-2:] == ["login:/scratch/a b;$(x)/p-1/runs/fashion/20260101-1/", f"{REMOTE.run.path}/"]
    assert {"--no-links", "--no-devices", "--no-specials", "--secluded-args", "--no-inc-recursive"} <= set(command)
    assert not {"-a", "--archive", "--links", "--owner", "--perms"} & set(command)
    assert {"--exclude=/remote.json", "--exclude=/secrets.json", "--exclude=/control/"} <= set(command)
    assert ("--exclude=/checkpoints/" in command) != checkpoints


def test_a_transfer_goes_on_where_it_stopped() -> None:
    for command in (push_command(CodeFiles(Path("/x"), ()), PROJECT, "ssh"), pull_command(REMOTE, "ssh", True)):
        assert "--partial-dir=.saman-partial" in command


@pytest.mark.parametrize("version", ["rsync  version 3.1.3  protocol version 31", "openrsync: protocol version 29"])
def test_an_rsync_that_trusts_the_names_of_a_server_is_refused(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", stubs(tmp_path / "bin", {"rsync": f"echo '{version}'"}))
    with pytest.raises(EnvironmentLack, match="does not check"):
        require_rsync()


def test_a_missing_rsync_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentLack, match="no rsync"):
        require_rsync()
