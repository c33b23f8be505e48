"""Runs external commands: the one place that starts them, waits for them and logs them.

Each command is logged at debug level by ``saman.runs.commands``, with its duration and its exit status, and without
secrets. Standard library only: ``make setup`` uses it before anything is installed.
"""

from __future__ import annotations

import logging
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from saman.configs.secrecy import without_secrets

LONGEST_SHOWN = 1000  # characters of a command in the log
_log = logging.getLogger(__name__)

# Reasons for a command not to answer: it is missing, may not be executed, or exceeds its time limit.
COMMAND_ERRORS = (OSError, subprocess.TimeoutExpired)


def run_command(
    command: Sequence[str | os.PathLike[str]],
    *,
    environment: Mapping[str, str] | None = None,
    timeout_seconds: float | None = None,
    text: str | None = None,
    captured: bool = True,
    errors: str = "replace",
    program: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end.

    Args:
        command: The command and its arguments; no shell is involved.
        environment: Its variables; ``None`` hands on this process's own.
        timeout_seconds: After this it is killed.
        text: Its standard input; ``None`` for an empty input.
        captured: Whether its output is returned; else it goes where this process's output goes.
        errors: How bytes that are not UTF-8 are decoded.
        program: The file to execute, if it is not the first word of ``command``.

    Returns:
        The exit status and the output, line ends as they are.

    Raises:
        OSError: The command cannot be started.
        subprocess.TimeoutExpired: It did not end in time.
    """
    began = time.monotonic()
    pipe = subprocess.PIPE if captured else None
    try:
        done = subprocess.run(
            command, env=environment, timeout=timeout_seconds, executable=program, check=False, stdout=pipe,
            stderr=pipe, stdin=subprocess.DEVNULL if text is None else None,
            input=None if text is None else text.encode(),
        )  # fmt: skip
    except OSError as error:
        _log.debug("%s: not started: %s", shown(command), error.strerror or error)
        raise
    except subprocess.TimeoutExpired:
        _log.debug("%s: killed, no answer within %g s", shown(command), timeout_seconds)
        raise
    _log.debug("%s: %s", shown(command), ending(done.returncode, time.monotonic() - began))
    output, error_output = ((data or b"").decode(errors=errors) for data in (done.stdout, done.stderr))
    return subprocess.CompletedProcess(command, done.returncode, output, error_output)


def become(command: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """Replace this process by an external command, which takes over the terminal and its signals.

    Raises:
        OSError: The command cannot be started.
    """
    _log.debug("%s: takes over this process", shown(command))
    os.execvpe(command[0], list(command), dict(environment))


def shown(command: Sequence[str | os.PathLike[str]]) -> str:
    """Return a command as a shell would take it, without secrets; a very long command is cut."""
    text = shlex.join(without_secrets([os.fspath(word) for word in command]))
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]} … ({len(text)} characters)"


def ending(status: int, seconds: float) -> str:
    """Return how an external command ended: its exit status or signal, and its duration."""
    if status >= 0:
        return f"exit status {status} after {seconds:.3f} s"
    known = -status in {number.value for number in signal.Signals}
    name = signal.Signals(-status).name if known else f"signal {-status}"
    return f"ended by {name} after {seconds:.3f} s"


class CommandLog:
    """Logs the start of a command that runs for long and is not run by ``run_command``, and its end."""

    def __init__(self, command: Sequence[str], pid: int) -> None:
        self._what, self._began, self._ended = f"{shown(command)}: process {pid}", time.monotonic(), False
        _log.debug("%s: started", self._what)

    def end(self, status: int | None) -> None:
        """Log how it ended, once; ``None`` means that it still runs."""
        if status is not None and not self._ended:
            self._ended = True
            _log.debug("%s: %s", self._what, ending(status, time.monotonic() - self._began))


def is_python(program: str) -> bool:
    """Whether a command's ``program`` is named like a Python interpreter."""
    return Path(program).name.startswith("python")
