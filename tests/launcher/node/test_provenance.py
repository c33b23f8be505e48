"""Provenance says where a run came from and gives nobody's secret away."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from saman.configs.secrecy import is_secret, public_environment, without_secrets
from saman.launcher.node.provenance import git_state, installed_packages, provenance

SECRET = "hunter2-do-not-show"


@pytest.mark.parametrize(
    "name",
    ["WANDB_API_KEY", "HF_TOKEN", "GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD", "PGPASSWORD", "MYSQL_PWD",
     "SSH_AUTH_SOCK", "MY_PASSPHRASE", "apiKey", "githubToken", "GOOGLE_APPLICATION_CREDENTIALS", "SESSION_COOKIE",
     "SLURM_JWT", "GIT_ASKPASS", "MUNGE_KEYS", "SENTRY_DSN", "SLACK_WEBHOOK", "STORAGE_CONNECTION_STRING"],
)  # fmt: skip
def test_the_name_of_a_variable_gives_its_secret_away(name: str) -> None:
    assert is_secret(name)
    assert SECRET not in json.dumps(public_environment({name: SECRET}))


@pytest.mark.parametrize(
    "name", ["PATH", "PWD", "HOME", "OMP_NUM_THREADS", "SLURM_JOB_ID", "KEYBOARD", "MONKEY", "COMPASS"]
)
def test_harmless_variables_are_kept(name: str) -> None:
    assert public_environment({name: "value"}) == {name: "value"}


@pytest.mark.parametrize(
    "value",
    [f"https://user:{SECRET}@host/simple", f"postgresql+psycopg://me:{SECRET}@db:5432/x", f"--index-url https://{SECRET}@pypi/x",
     f"https://a:{SECRET}@one/ https://b:{SECRET}@two/"],
)  # fmt: skip
def test_credentials_in_urls_are_left_out_whatever_the_variable_is_called(value: str) -> None:
    shown = public_environment({"PIP_INDEX_URL": value, "OTHER": value})
    assert SECRET not in json.dumps(shown)
    assert "@" in shown["OTHER"]


def test_values_that_look_like_tokens_are_left_out() -> None:
    values = {
        "A": "ghp_" + "x" * 36,
        "B": "AKIAABCDEFGHIJKLMNOP",
        "C": "Authorization: Bearer abcdefghij0123",
        "D": "hf_" + "y" * 30,
    }
    assert all("left out" in value for value in public_environment(values).values())


def test_command_lines_are_cleaned_in_every_spelling_of_an_option() -> None:
    argv = ["train.py", "--api-key", SECRET, f"--token={SECRET}", "--epochs", "3", f"data.args.password={SECRET}",
            f"s3://k:{SECRET}@bucket/x", "--passwd-file", "--lr=0.1"]  # fmt: skip
    shown = without_secrets(argv)
    assert SECRET not in json.dumps(shown)
    assert shown[3:6] == ["--token=(left out)", "--epochs", "3"]
    assert shown[-1] == "--lr=0.1"


@pytest.mark.parametrize(
    "argument",
    [
        f"launch.environment.ANY={SECRET}",
        f"launch.environment={{ANY: {SECRET}}}",
        f"launch={{environment: {{ANY: {SECRET}}}}}",
        f"notify={{webhook: 'https://hooks.example.org/{SECRET}'}}",
        f"notify.webhook=https://hooks.example.org/{SECRET}",
        f"notify.command=[post, --password, {SECRET}]",
        f"tracking={{mlflow: 'http://me:{SECRET}@host'}}",
        f"tracking.mlflow=http://me:{SECRET}@host",
        f"--set=launch.environment.ANY={SECRET}",
        f"--set=notify={{command: [post, {SECRET}]}}",
    ],
)
def test_an_override_keeps_its_key_and_loses_its_private_value(tmp_path: Path, argument: str) -> None:
    recorded = provenance(["saman", "run", argument, "train.epochs=3"], tmp_path).command_line
    assert SECRET not in json.dumps(recorded)
    assert recorded[2].partition("=")[0] == argument.partition("=")[0]
    assert recorded[3] == "train.epochs=3"


def test_a_dirty_repository_is_recorded_with_its_difference(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *identity, "-C", str(tmp_path), *arguments], check=True, capture_output=True)

    assert git_state(tmp_path) is None
    git("init", "-q")
    (tmp_path / "train.py").write_text("one\n")
    git("add", ".")
    git("commit", "-qm", "first")
    state = git_state(tmp_path)
    assert state is not None and not state.dirty and len(state.commit) == 40
    (tmp_path / "train.py").write_text(f"url = 'https://me:{SECRET}@host'\nPASSWORD = '{SECRET}'\n")
    (tmp_path / "new file.py").touch()
    state = git_state(tmp_path)
    assert state is not None and state.dirty and "+url = " in state.diff
    assert SECRET not in state.diff
    assert state.untracked == ("new file.py",)


def test_provenance_is_plain_json_and_names_versions_and_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SOME_TOKEN", SECRET)
    facts = json.loads(json.dumps(provenance(["saman", "run"], tmp_path, start_method="processes").to_json()))
    assert facts["versions"]["python"] and facts["host"]["cores"] >= 1 and facts["slurm_job"] == {"job_id": "17"}
    assert facts["start_method"] == "processes"
    assert SECRET not in json.dumps(facts)


def test_every_installed_package_is_recorded_by_the_name_of_its_metadata(tmp_path: Path) -> None:
    for name in ("first/numpy-2.3.1.dist-info", "second/numpy-1.0.dist-info", "second/tf_keras-2.21.0.dist-info",
                 "second/~umpy-2.0.dist-info", "second/other.egg-link"):  # fmt: skip
        (tmp_path / name).mkdir(parents=True)
    found = installed_packages([str(tmp_path / "first"), str(tmp_path / "second"), str(tmp_path / "missing")])
    assert found == {"numpy": "2.3.1", "tf-keras": "2.21.0"}
