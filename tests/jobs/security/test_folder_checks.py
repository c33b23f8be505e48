"""``saman doctor --security`` on folders: every condition is planted, and found with its file."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from saman.cli.main import make_app
from saman.configs.loading.settings import settings_file
from saman.configs.schemas.script import Script
from saman.jobs.security import folders, own_files
from saman.jobs.security.finding import Check, CheckResult, Risk
from saman.jobs.security.models_folder import check_models
from saman.jobs.security.runs_folder import check_runs
from saman.jobs.security.tree import Tree
from saman.runs.folder import RunFolder
from saman.runs.trust import ownership

KEY = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n-----END EC PRIVATE KEY-----\n"
PUBLIC = "-----BEGIN PUBLIC KEY-----\nMFkwEwYH\n-----END PUBLIC KEY-----\n"
TOKEN = "ghp_" + "a1B2" * 10


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("SAMAN_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    spec = Script.model_validate({"name": "hello", "command": ["true"], "directory": str(tmp_path)})
    return RunFolder.create(tmp_path / "runs", spec)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    (folder / "images" / ".saman" / "log").mkdir(parents=True)
    (folder / "images" / "1").mkdir()
    return folder


def risks(findings: list[CheckResult]) -> dict[Check, Risk]:
    """What was found, without the checks that passed."""
    return {finding.check: finding.risk for finding in findings if finding.risk is not Risk.NONE}


@pytest.mark.parametrize("check", [check_runs, check_models])
def test_a_folder_that_does_not_exist_is_not_called_safe(
    tmp_path: Path, check: Callable[[Path], list[CheckResult]]
) -> None:
    (result,) = check(tmp_path / "typo")
    assert result.risk is Risk.NOTE and f"{tmp_path / 'typo'} does not exist" in result.found


def test_a_folder_of_one_user_has_nothing_to_mend(run: RunFolder, models: Path) -> None:
    assert risks(check_runs(run.runs_dir)) == {}
    assert risks(check_models(models)) == {}


PLANTED: list[tuple[str, Callable[[RunFolder], object], Check, Risk]] = [
    ("others write the command", lambda run: run.script_file.chmod(0o666), Check.RUNS_PERMISSIONS, Risk.DANGER),
    ("others write the folder", lambda run: run.path.chmod(0o777), Check.RUNS_PERMISSIONS, Risk.DANGER),
    ("others exchange runs", lambda run: run.runs_dir.chmod(0o777), Check.RUNS_FOLDER, Risk.DANGER),
    ("FIFO", lambda run: os.mkfifo(run.path / "deep.json"), Check.RUNS_PLANTED, Risk.DANGER),
    ("socket", lambda run: os.mknod(run.path / "s", stat.S_IFSOCK | 0o600), Check.RUNS_PLANTED, Risk.DANGER),
    ("token", lambda run: (run.path / "notes.txt").write_text(f"use {TOKEN}"), Check.RUNS_SECRETS, Risk.DANGER),
    ("key", lambda run: (run.path / "e.yaml").write_text("API_KEY: 12-ab"), Check.RUNS_SECRETS, Risk.DANGER),
]


@pytest.mark.parametrize(("name", "plant", "check", "risk"), PLANTED, ids=[case[0] for case in PLANTED])
def test_what_is_wrong_in_a_runs_folder_is_found(
    name: str, plant: Callable[[RunFolder], object], check: Check, risk: Risk, run: RunFolder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(run.path)
    plant(run)
    assert risks(check_runs(run.runs_dir)) == {check: risk}


def test_a_secret_that_only_its_owner_reads_is_no_finding(run: RunFolder) -> None:
    (run.path / "notes.txt").write_text(f"use {TOKEN}")
    (run.path / "notes.txt").chmod(0o600)
    assert risks(check_runs(run.runs_dir)) == {}


def test_a_run_with_private_values_shows_none(tmp_path: Path) -> None:
    values = {"name": "hello", "command": ["true"], "directory": "/tmp", "launch": {"environment": {"API_KEY": TOKEN}}}
    run = RunFolder.create(tmp_path / "runs", Script.model_validate(values))
    assert "API_KEY" in run.script_file.read_text()
    assert risks(check_runs(run.runs_dir)) == {}


def test_no_finding_repeats_the_secret(run: RunFolder) -> None:
    (run.path / "notes.txt").write_text(f"use {TOKEN}")
    assert TOKEN not in str(check_runs(run.runs_dir))


def test_runs_of_others_are_counted_and_a_trusted_one_is_a_warning(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings_file().parent.mkdir(parents=True)
    settings_file().write_text("safe: []\n")
    real = ownership.find_doubt
    theirs = ownership.Doubt(run.path, ownership.Fault.OWNER, 1234)
    monkeypatch.setattr(
        "saman.runs.trust.run_trust.find_doubt", lambda path: theirs if path == run.path else real(path)
    )
    found = {finding.check: finding for finding in check_runs(run.runs_dir)}
    assert found[Check.RUNS_OWNERS].risk is Risk.NOTE and "1 of user 1234" in found[Check.RUNS_OWNERS].found
    settings_file().write_text(f"safe: [{run.runs_dir}]\n")
    assert risks(check_runs(run.runs_dir))[Check.RUNS_OWNERS] is Risk.WARNING


@pytest.mark.parametrize(
    ("name", "text", "check", "risk"),
    [
        ("images/release.pem", KEY, Check.MODELS_KEYS, Risk.DANGER),
        ("keys/release.pub", PUBLIC, Check.MODELS_KEYS, Risk.DANGER),
        ("images/1/saman.json", '{"note": "postgres://me:secret@host/1"}', Check.MODELS_SECRETS, Risk.DANGER),
    ],
)
def test_keys_and_secrets_in_a_models_folder_are_found(
    name: str, text: str, check: Check, risk: Risk, models: Path
) -> None:
    (models / name).parent.mkdir(exist_ok=True)
    (models / name).write_text(text)
    assert risks(check_models(models)) == {check: risk}


def test_a_models_folder_of_a_group_should_require_signatures(models: Path) -> None:
    (models / "images").chmod(0o775)
    monkey = pytest.MonkeyPatch()
    monkey.setattr(ownership, "_private_group", lambda user, group: False)
    with monkey.context():
        assert risks(check_models(models)) == {
            Check.MODELS_PERMISSIONS: Risk.WARNING, Check.MODELS_SIGNATURE: Risk.WARNING,
        }  # fmt: skip
        (models / "policy.yaml").write_text("signature: required\npublic_key: /etc/keys/release.pub\n")
        assert risks(check_models(models)) == {Check.MODELS_PERMISSIONS: Risk.WARNING}
        (models / "images" / "1").chmod(0o777)
        assert risks(check_models(models))[Check.MODELS_PERMISSIONS] is Risk.DANGER
    monkey.undo()


def test_a_folder_without_file_locks_is_named_with_the_mount_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, command: int, about: bytes) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("saman.runs.locks.fcntl.fcntl", refuse)
    finding = folders.check_locks(Check.RUNS_LOCKS, tmp_path)
    assert finding.risk is Risk.WARNING and "-o flock" in finding.remedy
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_not_followed_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "up").symlink_to(tmp_path)
    assert [path.name for path, _ in Tree.of(tmp_path / "runs").files] == ["up"]


@pytest.mark.parametrize("entry", ["", ".", "bin"])
def test_a_relative_search_path_is_dangerous(entry: str) -> None:
    assert own_files.check_search_path(["/usr/bin", entry]).risk is Risk.DANGER
    assert own_files.check_search_path(["/usr/bin", "/does/not/exist"]).risk is Risk.NONE


def test_a_folder_on_the_search_path_that_others_write_to_is_dangerous(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    assert own_files.check_search_path([str(tmp_path)]).risk is Risk.DANGER


@pytest.mark.skipif(os.geteuid() == 0, reason="root may enter every folder")
def test_a_folder_that_this_user_cannot_enter_is_passed_over(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    (closed / "bin").mkdir(parents=True)
    closed.chmod(0)
    assert own_files.check_search_path([str(closed / "bin")]).risk is Risk.NONE
    assert own_files.check_folders([closed / "bin"]).risk is Risk.NONE


def test_cached_code_that_others_write_to_is_dangerous(tmp_path: Path) -> None:
    wheel = tmp_path / "cache" / "wheels" / "horovod.whl"
    wheel.parent.mkdir(parents=True)
    wheel.touch()
    assert own_files.check_folders([tmp_path / "cache"]).risk is Risk.NONE
    wheel.chmod(0o666)
    assert str(wheel) in own_files.check_folders([tmp_path / "cache"]).found


@pytest.mark.parametrize(("mode", "risk"), [(0o777, Risk.DANGER), (0o755, Risk.WARNING)])
def test_a_safe_list_that_trusts_everyone_is_dangerous(mode: int, risk: Risk, tmp_path: Path) -> None:
    assert own_files.check_safe_list().risk is Risk.NONE
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs").chmod(mode)
    settings_file().parent.mkdir(parents=True)
    settings_file().write_text(f"safe: [{tmp_path / 'theirs'}]\n")
    assert own_files.check_safe_list().risk is risk


def test_the_command_exits_3_and_lists_the_danger_as_json(run: RunFolder, tmp_path: Path) -> None:
    words = ["doctor", "--security", "--json", "--runs-dir", str(run.runs_dir), "--models-dir", str(tmp_path / "none")]
    app = make_app(["doctor"])
    safe = CliRunner().invoke(app, words)
    assert json.loads(safe.stdout)["safe"] is (safe.exit_code == 0)
    run.script_file.chmod(0o666)
    done = CliRunner().invoke(app, words)
    found = {finding["check"]: finding["risk"] for finding in json.loads(done.stdout)["findings"]}
    assert done.exit_code == 3 and found["runs.permissions"] == "danger"
    plain = CliRunner().invoke(app, [word for word in words if word != "--json"])
    assert plain.exit_code == 3 and "dangerous: runs.permissions" in plain.stdout and "chmod" in plain.stdout
