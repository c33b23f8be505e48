"""A real training is watched while it goes on: its slow rank is named in the metrics, in status, in the terminal."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_metrics import read, values

from saman.runs.folder import RunFolder

pytestmark = [pytest.mark.ranks, pytest.mark.slow]

CASES = Path(__file__).parents[2] / "trainers" / "training_cases.py"
EXPERIMENT: dict[str, Any] = {
    "name": "watched",
    "model": {"build": "training_cases:uneven"},
    "data": {"source": "training_cases:images"},
    "train": {"global_batch_size": 24, "epochs": 1000, "telemetry_window_steps": 3, "strategy": "horovod"},
    "resources": {"ranks_per_node": 2},
    "launch": {"metrics": {"port": 0}},
    "notify": {"command": [sys.executable, "-c", "import sys; open('told', 'a').write(sys.stdin.read())"]},
}
SECONDS = 240.0  # for what takes a few, on a machine that does much else


def wait(condition: Callable[[], Any], process: subprocess.Popen[bytes], output: Path) -> Any:
    """The first true answer of ``condition`` while the training goes on."""
    deadline = time.monotonic() + SECONDS
    while not (found := condition()):
        assert process.poll() is None and time.monotonic() < deadline, output.read_text()[-3000:]
        time.sleep(0.2)
    return found


class Terminal:
    """``saman watch`` in a terminal of its own."""

    def __init__(self, folder: Path, columns: int) -> None:
        self.own, other = pty.openpty()
        os.set_blocking(self.own, False)
        self.resize(columns, None)
        environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        environment["TERM"] = "xterm-256color"
        command = [sys.executable, "-m", "saman", "watch", "last", "--every", "0.3"]
        self.process = subprocess.Popen(
            command, cwd=folder, stdin=other, stdout=other, stderr=other, env=environment, start_new_session=True
        )
        os.close(other)
        self.text = ""

    def resize(self, columns: int, process: subprocess.Popen[bytes] | None) -> None:
        fcntl.ioctl(self.own, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
        if process is not None:
            process.send_signal(signal.SIGWINCH)
        self.text = ""

    def shows(self, *wanted: str, width: int | None = None) -> bool:
        """Whether the newest output holds all of ``wanted``, and a frame of ``width`` columns."""
        with contextlib.suppress(BlockingIOError, OSError):  # nothing new, or its program has ended
            self.text += os.read(self.own, 1 << 20).decode(errors="replace")
        plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.text)
        frames = {len(line) for line in re.findall("╰─+╯", plain)}
        return all(word in plain for word in wanted) and (width is None or width in frames)


@pytest.fixture
def training(tmp_path: Path) -> Iterator[tuple[RunFolder, subprocess.Popen[bytes], Path]]:
    shutil.copy(CASES, tmp_path)
    (tmp_path / "watched.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    output = tmp_path / "output"
    with output.open("w") as file:
        command = [sys.executable, "-m", "saman", "run", "watched.yaml"]
        process = subprocess.Popen(command, cwd=tmp_path, stdout=file, stderr=file)
    try:
        (path,) = wait(lambda: [*tmp_path.glob("runs/watched/*/events.jsonl")], process, output)
        yield RunFolder.open(path.parent), process, output
    finally:
        process.terminate()
        process.wait(60)


def test_a_slow_rank_is_named_while_it_is_slow(training: tuple[RunFolder, subprocess.Popen[bytes], Path]) -> None:
    run, process, output = training
    folder = output.parent
    text = wait(lambda: re.search(r"metrics: (http://\S+)", output.read_text()), process, output)

    def metrics() -> dict[str, float]:
        return values(read(text[1]))

    terminal = Terminal(folder, 100)

    def slow_ranks() -> dict[str, float]:
        return {name: value for name, value in metrics().items() if name.startswith('saman_straggler_ratio{rank="1"')}

    slow = wait(slow_ranks, process, output)
    assert all(value > 0.05 for value in slow.values())
    assert any(event.facts["rank"] == 1 for event in run.events() if event.kind == "straggler")
    wait(lambda: terminal.shows("rank 1 on", "slower than its peers", "median", "own work", width=100), process, output)
    terminal.resize(64, terminal.process)
    wait(lambda: terminal.shows("progress", width=64), process, output)
    status = [sys.executable, "-m", "saman", "status", "last"]
    wait(lambda: "rank 1 on" in subprocess.check_output(status, cwd=folder, text=True), process, output)
    now = metrics()
    assert now["saman_world_size"] == 2 and now["saman_samples_per_second"] > 0 and now["saman_exchange_seconds"] >= 0
    assert {"saman_loss", "saman_own_seconds", "saman_input_wait_seconds", "saman_memory_bytes"} <= set(now)
    run.request_stop("the test has seen enough", "user")
    assert process.wait(SECONDS) == 85
    deadline = time.monotonic() + SECONDS
    while terminal.process.poll() is None and time.monotonic() < deadline:
        terminal.shows()  # a terminal that nobody reads holds its program up
        time.sleep(0.1)
    assert terminal.process.poll() == 1  # the run has not completed
    assert json.loads((folder / "told").read_text())["occasion"] == "requeue"
