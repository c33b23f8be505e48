"""The command lines of ssh: safe whatever the names hold, and failures in words."""

from __future__ import annotations

import shlex
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saman.configs.errors import EnvironmentLack, UserError
from saman.configs.problems import validated
from saman.configs.schemas.cluster import Cluster
from saman.jobs.remote import ssh
from saman.jobs.remote.ssh import SshFailure, connection_error, control_socket, failure_of, remote_command, saman_words

PARTITIONS = [{"name": "main", "cores_per_node": 4}]


def cluster(access: dict[str, Any] | None = None, **keys: Any) -> Cluster:
    access = {"ssh": "login.example.edu", "folder": "/scratch", **(access or {})}
    return validated(Cluster, {"name": "site", "partitions": PARTITIONS, "access": access, **keys}, "test")


@pytest.mark.parametrize(
    "host", ["-oProxyCommand=reboot", "a b", "a;b", "$(id)", "", "user@-x", "a\nb", "host:/x", "a/b"]
)
def test_a_host_is_never_an_option_or_a_command(host: str) -> None:
    with pytest.raises(UserError, match=r"access\.ssh"):
        cluster({"ssh": host})


def test_hosts_as_people_write_them_are_accepted() -> None:
    for host in ("login", "ada@login.example.edu", "hpc-2", "10.0.0.7"):
        assert cluster({"ssh": host}).access is not None


@given(st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs", "Cc"]), min_size=1))
def test_a_path_of_saman_is_one_word_of_the_remote_shell(text: str) -> None:
    words = saman_words(cluster({"saman": "/opt/" + text.replace("$", "$$")}))
    assert shlex.split(words) == ["/opt/" + text]


def test_a_hostile_path_reaches_the_program_as_one_word_through_two_shells(tmp_path: Path) -> None:
    program = tmp_path / 'it\'s; touch $HOME `x` "q" %h\\' / "saman"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$0|$*"\n')
    program.chmod(0o755)
    words = saman_words(cluster({"saman": str(program).replace("$", "$$")}))
    done = subprocess.run(["sh", "-c", remote_command(words)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"{program}|remote-end"


@pytest.mark.parametrize(
    ("access", "software", "expected"),
    [
        ({}, {}, "saman"),
        ({"saman": "~/bin/saman"}, {"virtualenv": "/other"}, '"$HOME"/bin/saman'),
        ({}, {"virtualenv": "$WORK/venv"}, '"${WORK:?}"/venv/bin/saman'),
        ({}, {"conda": {"root": "/opt/conda", "environment": "tf"}}, "/opt/conda/envs/tf/bin/saman"),
        ({}, {"conda": {"root": "/opt/conda", "environment": "/my/env"}}, "/my/env/bin/saman"),
        ({}, {"python": "/usr/bin/python3"}, "/usr/bin/python3 -m saman"),
    ],
)
def test_the_saman_of_the_site_is_found(access: dict[str, Any], software: dict[str, Any], expected: str) -> None:
    assert saman_words(cluster(access, software=software)) == expected


def test_the_socket_lies_in_a_short_folder_of_this_user_alone(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 80)
    deep.mkdir()
    for runtime in (tmp_path, deep):
        socket = control_socket("login", {"XDG_RUNTIME_DIR": str(runtime)})
        assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
        assert len(str(socket)) <= ssh.LONGEST_SOCKET
        assert control_socket("other", {"XDG_RUNTIME_DIR": str(runtime)}) != socket


def test_a_socket_folder_that_is_a_link_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = tmp_path / "r"
    runtime.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (runtime / "saman").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setattr(ssh, "LONGEST_SOCKET", 4096)
    with pytest.raises(EnvironmentLack):
        control_socket("login", {"XDG_RUNTIME_DIR": str(runtime)})


def test_sessions_ask_nothing_and_share_the_connection() -> None:
    command = ssh.session_command("login", Path("/run/s"), "x")
    assert command[-3:] == ["--", "login", "x"]
    assert {"BatchMode=yes", "ControlPath=/run/s", "ControlMaster=no"} <= set(command)
    opened = ssh.master_command("login", Path("/run/s"), None)
    assert "BatchMode=yes" not in opened and "ControlMaster=yes" in opened
    assert "BatchMode=yes" in ssh.master_command("login", Path("/run/s"), Path("/log"))


@pytest.mark.parametrize(
    ("said", "failure"),
    [
        ("ssh: Could not resolve hostname x: Name or service not known", SshFailure.NO_HOST),
        ("ssh: connect to host x port 22: Connection refused", SshFailure.UNREACHABLE),
        ("ssh: connect to host x port 22: Connection timed out", SshFailure.UNREACHABLE),
        ("ssh: connect to host x port 22: No route to host", SshFailure.UNREACHABLE),
        ("banner\nada@x: Permission denied (publickey).", SshFailure.REFUSED),
        ("Host key verification failed.", SshFailure.HOST_KEY),
        ("something new", SshFailure.OTHER),
        ("", SshFailure.OTHER),
    ],
)
def test_a_failure_is_told_by_its_kind_in_two_lines(said: str, failure: SshFailure) -> None:
    assert failure_of(said) is failure
    error = connection_error("login", said)
    assert error.failure is failure and error.where == "login"
    assert error.remedy and "\n" not in error.problem + error.remedy
