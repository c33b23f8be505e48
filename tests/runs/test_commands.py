"""External commands run in one place, which logs each with its duration and its end, and leaves secrets out."""

from __future__ import annotations

import ast
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from saman.runs.commands import LONGEST_SHOWN, CommandLog, run_command, shown

ROOT = Path(__file__).resolve().parents[2]
# Processes that live beside their parent, are killed as a family, or must start on any old Python.
OWN_STARTS = {
    "jobs/remote/session.py",
    "launcher/rank/child.py",
    "launcher/setup/__main__.py",
    "launcher/setup/carry_out.py",
    "launcher/supervision/start_processes.py",
    "runs/commands.py",
    "slurm/job/stage_out.py",
    "serving/rollout/rollout_traffic.py",
    "serving/supervision/engine_process.py",
    "serving/supervision/front_process.py",
    "slurm/session/server.py",
    "tuning/places/here.py",
}


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("saman"), "propagate", True)
    caplog.set_level(logging.DEBUG, "saman")
    return caplog


def test_a_command_is_logged_with_its_duration_and_exit_status(log: pytest.LogCaptureFixture) -> None:
    done = run_command(["sh", "-c", "echo out; echo err >&2; sleep 0.2; exit 7"])
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    (record,) = log.records
    assert (record.name, record.levelname) == ("saman.runs.commands", "DEBUG")
    found = re.search(r"sh -c .*: exit status 7 after (\d+\.\d+) s$", record.getMessage())
    assert found and 0.2 <= float(found[1]) < 10


@pytest.mark.parametrize(
    ("command", "timeout", "error", "told"),
    [
        (["sh", "-c", "kill -9 $$"], None, None, "ended by SIGKILL after"),
        (["no-such-command"], None, FileNotFoundError, "not started: No such file or directory"),
        (["sleep", "60"], 0.2, subprocess.TimeoutExpired, "killed, no answer within 0.2 s"),
    ],
)
def test_a_command_that_gives_no_answer_is_logged_too(
    command: list[str], timeout: float | None, error: type[Exception] | None, told: str, log: pytest.LogCaptureFixture
) -> None:
    if error is None:
        run_command(command, timeout_seconds=timeout)
    else:
        with pytest.raises(error):
            run_command(command, timeout_seconds=timeout)
    assert told in log.text


def test_secrets_stay_out_of_the_log(log: pytest.LogCaptureFixture) -> None:
    run_command(["true", "--api-key", "hunter2", "PASSWORD=hunter2", "https://me:hunter2@example.org/"])
    assert "hunter2" not in log.text and "--api-key" in log.text
    assert len(shown(["x" * 10 * LONGEST_SHOWN])) < 2 * LONGEST_SHOWN


def test_input_output_and_environment_are_handed_on_as_they_are() -> None:
    assert run_command(["cat"], text="a\r\nb\n").stdout == "a\r\nb\n"
    assert run_command(["cat"]).stdout == ""  # nothing is read from the terminal
    assert (
        run_command(["sh", "-c", "echo $MINE"], environment={"MINE": "x", "PATH": os.environ["PATH"]}).stdout == "x\n"
    )
    assert run_command(["printf", r"\377"], errors="surrogateescape").stdout == "\udcff"
    assert run_command(["named", "-c", "echo $0"], program="/bin/sh").returncode == 0


def test_a_long_command_is_logged_at_its_start_and_once_at_its_end(log: pytest.LogCaptureFixture) -> None:
    logged = CommandLog(["mpirun", "-np", "2", "train"], 77)
    logged.end(None)
    logged.end(0)
    logged.end(0)
    first, last = (record.getMessage() for record in log.records)
    assert first == "mpirun -np 2 train: process 77: started"
    assert last.startswith("mpirun -np 2 train: process 77: exit status 0 after ")


def test_no_other_module_starts_commands() -> None:
    rooms = [path.resolve() for path in (ROOT / "src" / "saman").iterdir() if path.is_symlink()]
    for file in (file for room in rooms for file in room.rglob("*.py")):
        calls = [node.func for node in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(node, ast.Call)]
        starts = {
            call.attr for call in calls if isinstance(call, ast.Attribute) and ast.unparse(call.value) == "subprocess"
        }
        name = str(file.relative_to(ROOT))
        assert not starts & {"run", "Popen", "call", "check_call", "check_output"} or name in OWN_STARTS, name


# ---- what a person sees ------------------------------------------------------------------------------------------


def saman(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run saman where nvidia-smi answers with exit status 9."""
    fake = folder / "bin" / "nvidia-smi"
    if not fake.exists():
        fake.parent.mkdir()
        fake.write_text("#!/bin/sh\nexit 9\n")
        fake.chmod(0o755)
    around = {name: value for name, value in os.environ.items() if name not in ("SAMAN_LOG", "CUDA_VISIBLE_DEVICES")}
    around |= {"PATH": f"{fake.parent}{os.pathsep}{os.environ['PATH']}", **environment}
    command = [sys.executable, "-m", "saman", *arguments]
    return subprocess.run(command, cwd=folder, env=around, capture_output=True, text=True, check=False)


DRY = ("run", "quickstart", "--dry-run")
LOGGED = re.compile(r"^[\d:.]+ DEBUG saman\.runs\.commands: nvidia-smi -L: exit status 9 after \d+\.\d{3} s$", re.M)


def test_the_log_is_shown_where_it_is_asked_for_and_nowhere_else(tmp_path: Path) -> None:
    quiet = saman(tmp_path, *DRY)
    assert (quiet.returncode, quiet.stderr) == (0, "")
    for words, level in ((DRY, "debug"), (DRY, "DEBUG"), (("-v", *DRY), ""), ((*DRY, "--verbose"), "")):
        told = saman(tmp_path, *words, SAMAN_LOG=level)
        assert told.returncode == 0 and told.stdout == quiet.stdout
        assert LOGGED.search(told.stderr), (words, level, told.stderr)
    assert saman(tmp_path, *DRY, SAMAN_LOG="info").stderr == ""


def test_a_level_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    done = saman(tmp_path, *DRY, SAMAN_LOG="loud")
    assert done.returncode == 2
    assert "SAMAN_LOG: 'loud'" in done.stderr and "debug, info" in done.stderr


def test_every_command_takes_verbose_and_leaves_the_option_of_a_program_alone() -> None:
    from saman.cli.main import COMMANDS, _with_verbose, make_app, split_program

    commands = dict(_with_verbose(make_app()).commands)
    assert set(commands) == set(COMMANDS)
    while commands:
        name, command = commands.popitem()
        assert sum("-v" in option.opts for option in command.params) == 1, name
        commands |= {f"{name} {sub}": value for sub, value in getattr(command, "commands", {}).items()}
    assert split_program(["-v", "run", "-np", "2", "--", "prog", "-v"]) == (["-v", "run", "-np", "2"], ["prog", "-v"])
