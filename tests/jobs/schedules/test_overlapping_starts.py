"""Scheduled inference under overlapping starts and kills: processes of their own, and the lock between them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# `saman schedule run` with an inference that takes its time; like the real one it publishes by a rename, without
# replacing what is there.
PROGRAM = """
import os, sys, time
from pathlib import Path
from saman.jobs.inference import InferenceRequest, InferenceResult
from saman.jobs.schedules import inference_schedule as schedule

folder = Path(sys.argv[1])

def say(line):
    with (folder / "said").open("a") as said:
        said.write(line + chr(10))

def run(request, runs_dir, ranks):
    say(f"begin {request.inputs[0].name}")
    part = request.output.with_suffix(f".{os.getpid()}")
    part.write_text(request.inputs[0].name)
    while (folder / "hold").exists():
        time.sleep(0.01)
    os.link(part, request.output)
    part.unlink()
    say(f"done {request.inputs[0].name}")
    return InferenceResult(request.output, 1, 0, ())

schedule.prepare = lambda models, spec, inputs, output, **rest: InferenceRequest(
    "digits", 1, output.parent / "job", tuple(inputs), output)
schedule.run = run
print(len(schedule.infer_new(folder, "digits", folder / "in", folder / "out", folder)))
"""
FILES = [f"{number}.npy" for number in range(6)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for at, name in enumerate(FILES):
        (tmp_path / "in" / name).write_bytes(b"x")
        os.utime(tmp_path / "in" / name, (1e9 + at, 1e9 + at))
    return tmp_path


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def begin() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PROGRAM, str(folder)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()


def said(folder: Path) -> list[str]:
    file = folder / "said"
    return file.read_text().splitlines() if file.exists() else []


def wait(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_each_file_is_published_once_under_overlapping_starts_and_kills(
    folder: Path, start: Callable[[], subprocess.Popen[str]]
) -> None:
    (folder / "hold").touch()
    first = start()
    wait(lambda: said(folder) == ["begin 0.npy"])
    second = start()  # the next night, while the first is still at work
    assert second.communicate(timeout=120)[0] == "0\n" and second.returncode == 0
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    third = start()  # takes up what the killed start left
    wait(lambda: said(folder) == ["begin 0.npy"] * 2)
    fourth = start()
    (folder / "hold").unlink()
    counts = [int(process.communicate(timeout=120)[0]) for process in (third, fourth)]
    assert sum(counts) == len(FILES) and third.returncode == fourth.returncode == 0
    assert sorted(line for line in said(folder) if line.startswith("done")) == [f"done {name}" for name in FILES]
    assert sorted(file.read_text() for file in (folder / "out").glob("*.parquet")) == FILES
    assert start().communicate(timeout=120)[0] == "0\n"
