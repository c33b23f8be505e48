"""A candidate model is a program: it gets no network, no file outside its output, no secret, and an end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from saman.configs.errors import UserError
from saman.configs.schemas.policy import Loading, Policy
from saman.registry.evaluation import converter_process
from saman.runs.confinement import kernel
from saman.runs.confinement.confined import Confinement, Means, read_lacking

MEBIBYTE = 1 << 20


def _run(program: str, tmp_path: Path, memory: int = 2048 * MEBIBYTE, seconds: float = 60) -> tuple[int, str]:
    """The exit status and output of a confined Python program; its first argument is the folder it may write to."""
    folder, report = tmp_path / "out", tmp_path / "scratch" / "report.json"
    folder.mkdir(exist_ok=True)
    report.parent.mkdir(exist_ok=True)
    command = [sys.executable, "-I", "-c", program, str(folder), str(tmp_path)]
    done = subprocess.run(
        Confinement(memory, seconds, (folder,)).command(command, report), capture_output=True, text=True, timeout=100
    )
    return done.returncode, done.stdout + done.stderr


def _enforced(means: Means, tmp_path: Path) -> None:
    """Skip where the system cannot enforce this part; the confinement says so itself."""
    _run("pass", tmp_path)
    if reason := read_lacking(tmp_path / "scratch" / "report.json").get(means):
        pytest.skip(f"this machine cannot confine {means.value}: {reason}")


@pytest.mark.parametrize(
    "attack",
    [
        "socket.create_connection(('127.0.0.1', int(sys.argv[3])), 5)",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', int(sys.argv[3])))",
        "socket.socket(socket.AF_INET6)",
        "socket.socket(socket.AF_UNIX)",
        "subprocess.run([sys.executable, '-c', 'import socket; socket.socket()'], check=True)",
    ],
)
def test_no_connection_leaves_the_process(tmp_path: Path, attack: str) -> None:
    _enforced(Means.NETWORK, tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as server:
        attack = attack.replace("sys.argv[3]", f"'{server.getsockname()[1]}'")
        code, said = _run(f"import socket, subprocess, sys\n{attack}\nprint('connected')", tmp_path)
        assert code != 0 and "connected" not in said and ("PermissionError" in said or "CalledProcessError" in said)


def test_the_parts_of_a_process_may_still_talk_to_each_other(tmp_path: Path) -> None:
    code, said = _run("import socket\na, b = socket.socketpair()\na.send(b'x')\nprint(b.recv(1))", tmp_path)
    assert code == 0, said


@pytest.mark.parametrize(
    "attack",
    ["open(sys.argv[2] + '/stolen', 'w')", "os.mkdir(sys.argv[2] + '/made')", "os.remove(sys.argv[2] + '/thesis')",
     "os.rename(sys.argv[2] + '/thesis', sys.argv[1] + '/thesis')", "open(sys.argv[2] + '/thesis', 'a')",
     "os.truncate(sys.argv[2] + '/thesis', 0)", "os.symlink('/', sys.argv[2] + '/link')",
     "os.link(sys.argv[2] + '/thesis', sys.argv[1] + '/x') or open(sys.argv[1] + '/x', 'w')"],
)  # fmt: skip
def test_no_file_changes_but_the_output(tmp_path: Path, attack: str) -> None:
    _enforced(Means.FILES, tmp_path)
    (tmp_path / "thesis").write_text("a year of work")
    before = sorted(path.name for path in tmp_path.iterdir())
    program = f"import os, sys\nopen(sys.argv[1] + '/answer', 'w').write('42')\n{attack}"
    code, said = _run(program, tmp_path)
    assert (tmp_path / "out" / "answer").read_text() == "42"
    assert code != 0, said
    assert (tmp_path / "thesis").read_text() == "a year of work"
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_memory_is_limited(tmp_path: Path) -> None:
    code, said = _run("block = bytearray(600 << 20)\nprint('had it')", tmp_path, memory=400 * MEBIBYTE)
    assert code != 0 and "had it" not in said


def test_the_time_of_the_processor_is_limited(tmp_path: Path) -> None:
    began = time.monotonic()
    code, _ = _run("import os\nos.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\nwhile True: pass", tmp_path,
                   seconds=1 / len(os.sched_getaffinity(0)))  # fmt: skip
    assert code in (-signal.SIGXCPU, -signal.SIGKILL) and time.monotonic() - began < 60


def test_a_model_that_never_answers_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(UserError, match="not loaded and run within 1 s"):
        converter_process._run_confined(
            [sys.executable, "-c", "import time; time.sleep(100)"], dict(os.environ), Loading(seconds=1.0), tmp_path
        )
    assert time.monotonic() - began < 30


def test_the_converter_gets_none_of_the_users_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("HARMLESS", "kept")
    found = converter_process._environment(None)
    assert "hunter2" not in found.values() and found["HARMLESS"] == "kept"


def test_what_the_machine_cannot_enforce_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def impossible(*_: object) -> None:
        raise OSError("not on this machine")

    # In a child of its own: limits cannot be taken back.
    monkeypatch.setattr(kernel, "write_only_to", impossible)
    monkeypatch.setattr(kernel, "refuse_system_calls", impossible)
    for name in ("die_with_parent", "leave_network"):
        monkeypatch.setattr(kernel, name, lambda: None)
    monkeypatch.setattr("saman.runs.confinement.confined._limit", lambda *_: None)
    assert set(Confinement(1, 1, ()).apply()) == {Means.FILES, Means.NETWORK}
    assert set(read_lacking(tmp_path / "none.json")) == set(Means)
    monkeypatch.setattr(converter_process, "read_lacking", lambda _: {Means.NETWORK: "not on this machine"})
    converter_process._run_confined([sys.executable, "-c", ""], dict(os.environ), Loading(), tmp_path)
    assert "without a limit of its network: not on this machine" in caplog.text


def test_the_policy_sets_the_limits() -> None:
    policy = Policy.model_validate({"loading": {"memory": "2G", "seconds": 60}})
    assert (policy.loading.memory_bytes, policy.loading.seconds) == (2 << 30, 60)
