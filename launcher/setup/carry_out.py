"""Runs a command of the set-up: output to a log, elapsed time on the terminal, all processes ended on interruption."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from saman.configs.errors import EnvironmentLack
from saman.runs.commands import CommandLog
from saman.runs.growing_files import text_from

TAIL_LINES = 15
SECONDS_BETWEEN_LINES = 60
# These would make pip install elsewhere, or Python import packages from elsewhere.
_LEFT_OUT = ("PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_PREFIX", "PIP_USER", "PIP_REQUIREMENT", "PIP_CONSTRAINT")
# A set-up under make must not pass make's job server to the make that builds Horovod.
_FROM_MAKE = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES")

_GIVEN_UP = "Retry(total=0"  # pip's last attempt to connect

Say = Callable[[str], None]


def environment_of(venv: Path) -> dict[str, str]:
    """This process's environment as if ``venv`` were activated, with a quiet pip."""
    clean = {name: value for name, value in os.environ.items() if name not in (*_LEFT_OUT, *_FROM_MAKE)}
    return {
        **clean,
        "VIRTUAL_ENV": str(venv),
        "PATH": os.pathsep.join([str(venv / "bin"), clean.get("PATH", os.defpath)]),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "PIP_NO_WARN_SCRIPT_LOCATION": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }


@dataclass
class ProgressLine:
    """A line per step: rewritten every second on a terminal, printed once a minute elsewhere."""

    say: Say = print
    terminal: bool = field(default_factory=lambda: sys.stdout.isatty())
    started: float = 0.0
    said: float = 0.0
    title: str = ""

    def begin(self, title: str) -> None:
        """Start the clock of a set-up's step."""
        self.started = self.said = time.monotonic()
        self.title = title
        if not self.terminal:
            self.say(f"{title} ...")

    def tick(self) -> None:
        """Show the elapsed time of a set-up's step; called about once a second."""
        now = time.monotonic()
        if self.terminal:
            sys.stdout.write(f"\r\x1b[K{self.title} ... {progress_time(now - self.started)}")
            sys.stdout.flush()
        elif now - self.said >= SECONDS_BETWEEN_LINES:
            self.say(f"{self.title} ... {progress_time(now - self.started)}")
            self.said = now

    def end(self, outcome: str = "done") -> None:
        """Print the outcome of a set-up's step and its duration."""
        if self.terminal:
            sys.stdout.write("\r\x1b[K")
        self.say(f"{self.title}: {outcome} ({progress_time(time.monotonic() - self.started)})")


def progress_time(seconds: float) -> str:
    """The time a step of the set-up has taken: ``42 s`` or ``1 min 05 s``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def run_logged(
    command: Sequence[str], log: Path, progress: ProgressLine, *, env: Mapping[str, str], cwd: Path | None = None
) -> None:
    """Run a command of the set-up, its output in the log, and wait for its end.

    Args:
        command: the program and its arguments.
        log: the file to which the command's output is appended.
        progress: shows that the command is still running.
        env: the whole environment of the command.
        cwd: the folder it starts in; ``None`` for the current folder.

    Raises:
        EnvironmentLack: The command fails; the error has the last lines of its output.
    """
    with log.open("ab") as output:
        output.write(f"\n$ {' '.join(command)}\n".encode())
        output.flush()
        begin = output.tell()
        # Its own session, so that whatever it started can be ended with it.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=cwd,
            start_new_session=True,
        )
        logged = CommandLog(command, process.pid)
        try:
            while True:
                try:
                    code = process.wait(timeout=1)
                    break
                except subprocess.TimeoutExpired:
                    progress.tick()
        except BaseException:
            end_family(process)
            raise
        finally:
            logged.end(process.returncode)
    if code != 0:
        progress.end("failed")
        raise _failure(progress.title, code, log, begin)


def _failure(title: str, code: int, log: Path, begin: int) -> EnvironmentLack:
    """The error for a failed command; names an unreachable index, which pip reports in many lines."""
    lines, whole = tail(log, begin), f"the full output is in {log}"
    if _GIVEN_UP in text_from(log, begin):
        remedy = f"check the network, and pip's settings with: pip config list; {whole}"
        return EnvironmentLack(f"{title}: the package index cannot be reached", remedy=remedy)
    return EnvironmentLack(f"{title} failed with exit code {code}; last lines:\n{lines}\n", remedy=whole)


def end_family(process: subprocess.Popen[bytes]) -> None:
    """End a command of the set-up and everything it started: SIGTERM, and SIGKILL after 3 s."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(timeout=3)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def tail(log: Path, begin: int) -> str:
    """The last lines that a command wrote, indented; pip's warnings only if there is nothing else."""
    lines = text_from(log, begin).rstrip().splitlines()
    telling = [line for line in lines if not line.lstrip().startswith("WARNING:")] or lines
    return "\n".join(f"  | {line}" for line in telling[-TAIL_LINES:])
