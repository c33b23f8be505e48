"""Processes of an attempt: a reused pid is never signalled, and nothing survives by ignoring SIGTERM."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from saman.launcher.supervision.processes import ProcessInfo, find_process, kill_until_gone, signal_processes

STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); signal.pause()"


@pytest.fixture
def stubborn() -> Iterator[subprocess.Popen[bytes]]:
    """A process that ignores SIGTERM."""
    with subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline()
        yield process
        process.kill()


def described(process: subprocess.Popen[bytes]) -> ProcessInfo:
    found = find_process(process.pid)
    assert found is not None
    return found


def test_a_later_process_with_the_same_pid_is_not_signalled(
    stubborn: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    now = described(stubborn)
    signal_processes([replace(now, started=now.started - 1)], signal.SIGKILL)
    assert sent == []
    signal_processes([now], signal.SIGTERM)
    assert sent == [(stubborn.pid, signal.SIGTERM)]


def test_a_process_that_ignores_sigterm_is_killed(stubborn: subprocess.Popen[bytes]) -> None:
    now = described(stubborn)
    left = kill_until_gone(lambda: {} if stubborn.poll() is not None else {now.pid: now}, seconds=5)
    assert left == {} and stubborn.wait(5) == -signal.SIGKILL


def test_a_name_with_parentheses_does_not_shift_the_fields_of_proc() -> None:
    program = "import ctypes; ctypes.CDLL(None).prctl(15, b') Z 1 (x'); print(flush=True); input()"
    pipes = {"stdout": subprocess.PIPE, "stdin": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", program], **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout is not None and process.stdout.readline()
        found = find_process(process.pid)
        process.kill()
    assert found is not None and found.parent == os.getpid() and found.state in "SR"
