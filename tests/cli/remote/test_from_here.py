"""The commands of a user's own machine, over a pretended ssh; the real one is in tests/slurm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.jobs.remote.pretended_ssh import PretendedSsh

from saman.configs.errors import EnvironmentLack
from saman.configs.schemas.script import Script
from saman.jobs.remote.transfer import fetch
from saman.runs.folder import RunFolder
from saman.runs.remote.remote_runs import find_remote_run, remember


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PretendedSsh]:
    made = PretendedSsh(tmp_path, monkeypatch)
    yield made
    made.close()


@pytest.fixture
def there(network: PretendedSsh) -> RunFolder:
    """A finished run on the other side, which this machine remembers."""
    project = network.project
    spec = Script.model_validate({"name": "train", "command": ["true"], "directory": "/"})
    run = RunFolder.create(Path(project.folder) / "runs", spec)
    run.new_attempt().log(0).write_text("loss 0.1\x1b]0;title\x07\n")
    run.append("attempt_started", "supervisor", 1, ranks=1)
    run.append("completed", "supervisor", 1)
    remember(project, [f"train/{run.id}"], network.folder / "runs")
    return run


def saman(network: PretendedSsh, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "saman", *words]
    return subprocess.run(command, cwd=network.folder, capture_output=True, text=True, timeout=60, env=os.environ)


def test_a_run_elsewhere_is_named_like_a_run_here(network: PretendedSsh, there: RunFolder) -> None:
    mine = RunFolder.create(network.folder / "runs", there.script().model_copy(update={"name": "mine"}))
    told = saman(network, "status", "--json")
    assert [status["id"] for status in json.loads(told.stdout)] == [mine.id, there.id], told.stderr
    log = saman(network, "logs", "train")
    assert log.stdout == "loss 0.1␛]0;title␇\n"


def test_results_come_without_links_and_secrets_and_then_tell_all(network: PretendedSsh, there: RunFolder) -> None:
    (there.path / "export").mkdir(exist_ok=True)
    (there.path / "export" / "model.h5").write_text("weights")
    (there.path / "export" / "out").symlink_to("/etc")
    (there.path / "export" / "passwd").symlink_to("/etc/passwd")
    os.mkfifo(there.path / "export" / "pipe")
    (there.path / "secrets.json").write_text("{}")
    (there.path / "remote.json").write_text('{"host": "evil"}')
    (there.path / "checkpoints" / "big").write_text("x")
    done = saman(network, "fetch", "last")
    assert done.returncode == 0, done.stderr
    here = network.folder / "runs" / "train" / there.id
    assert sorted(path.name for path in (here / "export").iterdir()) == ["model.h5"]
    assert not [name for name in ("secrets.json", "checkpoints", "control") if (here / name).exists()]
    found = find_remote_run("last", network.folder / "runs")
    assert found is not None and found.complete and found.project == network.project
    (network.folder / "down").write_text("ssh: connect to host login port 22: Connection refused\n")
    assert saman(network, "logs", "last").stdout == "loss 0.1␛]0;title␇\n"  # from here, without a connection


def test_a_login_shell_that_prints_text_is_named(network: PretendedSsh, there: RunFolder) -> None:
    (network.folder / "noisy").touch()
    found = find_remote_run("last", network.folder / "runs")
    assert found is not None
    with pytest.raises(EnvironmentLack, match="the login shell prints text") as lack:
        fetch(found, lambda text: None)
    assert "~/.bashrc" in str(lack.value.remedy)


def test_a_run_that_was_never_there_is_no_run_to_fetch(network: PretendedSsh) -> None:
    spec = Script.model_validate({"name": "mine", "command": ["true"], "directory": "/"})
    RunFolder.create(network.folder / "runs", spec)
    done = saman(network, "fetch", "mine")
    assert done.returncode == 2 and "not submitted from here" in done.stderr


def test_the_errors_of_a_dead_network_are_two_lines(network: PretendedSsh, there: RunFolder) -> None:
    (network.folder / "down").write_text("ssh: connect to host login port 22: Connection refused\n")
    done = saman(network, "status", "last")
    assert done.returncode == 3
    assert done.stderr.startswith("error: login: the login node cannot be reached") and done.stderr.count("\n") == 2
