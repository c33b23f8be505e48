"""A user's program gets the signal that asks it to stop, where it handles it and nowhere else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from saman.launcher.local import run_script
from saman.launcher.planning import Options
from saman.launcher.programs import script_from_command
from saman.launcher.rank.stop_forwarding import handlers, stop_signal

HANDLING = (
    "import signal,time; signal.signal(signal.SIGUSR1, lambda *_: exit(85)); print('ready', flush=True); time.sleep(60)"
)


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, condition
        time.sleep(0.05)


@pytest.mark.parametrize("before", ["", "trap : EXIT; "])  # with it, bash handles every fatal signal
def test_the_signal_goes_to_the_topmost_program_that_handles_it(before: str) -> None:
    command = ["bash", "-c", f'{before}"{sys.executable}" -c "{HANDLING}"; :']
    shell = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert shell.stdout is not None and shell.stdout.readline() == b"ready\n"
        (found,) = handlers(shell.pid, signal.SIGUSR1)
        assert found != shell.pid and found not in handlers(shell.pid, signal.SIGUSR2)
        os.kill(found, signal.SIGUSR1)
        assert shell.wait(timeout=10) == 0
    finally:
        shell.kill()
        shell.stdout and shell.stdout.close()


def test_a_shell_gets_the_signal_if_nothing_below_it_handles_it() -> None:
    shell = subprocess.Popen(["bash", "-c", "trap 'exit 85' USR1; echo ready; sleep 60 & wait"], stdout=subprocess.PIPE)
    try:
        assert shell.stdout is not None and shell.stdout.readline() == b"ready\n"
        until(lambda: handlers(shell.pid, signal.SIGUSR1) == [shell.pid])
        os.kill(shell.pid, signal.SIGUSR1)
        assert shell.wait(timeout=10) == 85
    finally:
        shell.kill()


@pytest.mark.parametrize(("name", "expected"), [("USR1", signal.SIGUSR1), ("TERM", signal.SIGTERM), ("none", None)])
def test_the_signal_is_the_one_of_launch_stop_signal(name: str, expected: signal.Signals | None) -> None:
    assert stop_signal({"SAMAN_STOP_SIGNAL": name}) is expected


@pytest.mark.ranks
def test_every_rank_of_a_program_is_asked_to_stop(tmp_path: Path) -> None:
    program = tmp_path / "asked.sh"  # rank 1 asks; both ranks must hear it
    program.write_text(
        f'[ $SAMAN_FIRST_RANK = 0 ] || touch $SAMAN_RUN/control/stop\nexec "{sys.executable}" -c "{HANDLING}"'
    )
    spec = script_from_command(["bash", str(program)], ["launch.with=processes"], ranks=2)
    outcome = run_script(spec, Options(runs_dir=tmp_path / "runs"))
    assert (outcome.state.value, outcome.exit_code) == ("preempted", 85), outcome.message
