"""A rank that floods its log delays neither the report of a failure nor the answer to a signal."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from saman.launcher.supervision.background_view import MOST_WAITING, BackgroundView
from saman.runs.find import find_runs

FLOOD = """
import os, sys, time
rank = int(os.environ["SAMAN_FIRST_RANK"])
began = time.monotonic()
if rank == 0:
    block = b"".join(b"%d\\n" % number for number in range(20000))
    for _ in range(110):
        os.write(1, block)  # 12 MB of short lines
    print("flooded", flush=True)
    time.sleep(300)
while not os.path.exists("fail"):
    time.sleep(0.05)
open("failed", "w").write(str(time.time()))
sys.exit(3)
"""


class _Standing:
    """A terminal that stands still, as after Ctrl-S."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.said: list[str] = []
        self.lines = 0
        self.last = ""

    def progress(self, progress: object) -> None:
        self.go.wait()

    def line(self, rank: int, text: str) -> None:
        self.go.wait()
        self.lines += 1
        self.last = text

    def say(self, text: str) -> None:
        self.go.wait()
        self.said.append(text)


def test_a_terminal_that_stands_still_delays_no_call() -> None:
    terminal = _Standing()
    shown = BackgroundView(terminal)
    began = time.monotonic()
    for number in range(20 * MOST_WAITING):
        shown.line(1, str(number))
    shown.leave_out(1, 7)
    shown.say("rank 1 failed")
    assert time.monotonic() - began < 20  # whoever waits for the terminal, waits for ever
    terminal.go.set()
    shown.close()
    assert "rank 1 failed" in terminal.said
    (counted,) = [text for text in terminal.said if "not shown" in text]
    assert str(20 * MOST_WAITING - terminal.lines + 7) in counted
    assert terminal.lines <= MOST_WAITING + 1
    assert terminal.last == str(20 * MOST_WAITING - 1)  # the newest lines tell how it ended


def test_the_end_does_not_wait_for_a_terminal_that_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saman.launcher.supervision.background_view.FLUSH_SECONDS", 0.3)
    shown = BackgroundView(_Standing())
    shown.line(0, "waits")
    began = time.monotonic()
    shown.close()
    assert time.monotonic() - began < 20


def test_a_view_that_fails_ends_no_run() -> None:
    class Closed(_Standing):
        def line(self, rank: int, text: str) -> None:
            raise BrokenPipeError

    terminal = Closed()
    terminal.go.set()
    shown = BackgroundView(terminal)
    shown.line(0, "to nobody")
    shown.say("still said")
    shown.close()
    assert terminal.said == ["still said"]


def _saman(folder: Path) -> subprocess.Popen[bytes]:
    """Two ranks, one of which floods its log; its output goes where it is read slowly."""
    (folder / "flood.py").write_text(FLOOD)
    command = [sys.executable, "-m", "saman", "run", "-np", "2", "--", sys.executable, "flood.py"]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def _flooded(folder: Path) -> bool:
    return any(b"flooded" in log.read_bytes()[-100:] for log in (folder / "runs").rglob("00000.log"))


def _until_flooded(folder: Path) -> None:
    deadline = time.monotonic() + 60
    while not _flooded(folder):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.ranks
def test_a_failure_is_recorded_although_nobody_reads_the_output(tmp_path: Path) -> None:
    saman = _saman(tmp_path)
    try:
        _until_flooded(tmp_path)
        (tmp_path / "fail").touch()
        (run,) = find_runs(tmp_path / "runs")
        deadline = time.monotonic() + 60
        while run.state.value != "failed":
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        saman.kill()
        saman.communicate()


@pytest.mark.ranks
def test_sigterm_ends_a_flooded_run_within_slurms_grace(tmp_path: Path) -> None:
    saman = _saman(tmp_path)
    reader = threading.Thread(target=saman.communicate, daemon=True)
    try:
        _until_flooded(tmp_path)
        began = time.monotonic()
        saman.send_signal(signal.SIGTERM)
        reader.start()
        reader.join(timeout=20)
        assert saman.returncode == 130
        assert time.monotonic() - began < 15.0
    finally:
        saman.kill()
