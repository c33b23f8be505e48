"""Scheduled inference: each file exactly once, and lines that cron and Slurm read as they are meant."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from saman.configs.errors import UserError
from saman.jobs.inference import InferenceRequest, InferenceResult
from saman.jobs.schedules import inference_schedule
from saman.jobs.schedules.inference_schedule import (
    LOCK,
    Period,
    Scheduler,
    find_new,
    infer_new,
    is_job_script,
    output_of,
    render_line,
    render_script,
)
from saman.runs.locks import hold

HOSTILE = ["a b", "$(touch x)", "`id`", "per%cent", "q'uote", 'q"uote', "semi;colon", "back\\slash", "-n", "#hash", "ü"]


@pytest.fixture
def inference(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Records which files are predicted; writes outputs as the real inference does."""
    seen: list[Path] = []

    def prepare(models: Path, spec: str, inputs: list[Path], output: Path, **rest: Any) -> InferenceRequest:
        return InferenceRequest("digits", 1, output.parent / "job", tuple(inputs), output)

    def run(request: InferenceRequest, runs_dir: Path, ranks: int) -> InferenceResult:
        if b"bad" in request.inputs[0].read_bytes():
            raise UserError("damaged")
        seen.append(request.inputs[0])
        request.output.write_bytes(b"PAR1")
        return InferenceResult(request.output, 1, 0, ())

    monkeypatch.setattr(inference_schedule, "prepare", prepare)
    monkeypatch.setattr(inference_schedule, "run", run)
    return seen


def arrive(folder: Path, name: str, content: bytes = b"x", age: float = 3600) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_bytes(content)
    when = file.stat().st_mtime - age
    os.utime(file, (when, when))
    return file


def infer(folder: Path) -> list[str]:
    done = infer_new(folder / "models", "digits", folder / "in", folder / "out", folder / "runs")
    return [result.file.path.name for result in done if result.result is not None]


def test_each_file_is_predicted_exactly_once(tmp_path: Path, inference: list[Path]) -> None:
    for at, name in enumerate(HOSTILE):
        arrive(tmp_path / "in", f"{name}.npy", age=3600 - at)
    assert infer(tmp_path) == [f"{name}.npy" for name in HOSTILE]  # oldest first
    assert infer(tmp_path) == []
    arrive(tmp_path / "in", "late.npz")
    arrive(tmp_path / "in", "notes.txt")
    assert infer(tmp_path) == ["late.npz"] and len(inference) == len(HOSTILE) + 1
    assert len(list((tmp_path / "out").glob("*.parquet"))) == len(HOSTILE) + 1
    assert all(path.parent == tmp_path / "out" for path in (tmp_path / "out").rglob("*"))


def test_a_replaced_file_is_new_and_a_young_file_waits(tmp_path: Path, inference: list[Path]) -> None:
    arrive(tmp_path / "in", "a.npy", b"first")
    arrive(tmp_path / "in", "young.npy", age=0)
    assert infer(tmp_path) == ["a.npy"]
    arrive(tmp_path / "in", "a.npy", b"second", age=1800)
    assert infer(tmp_path) == ["a.npy"]
    assert infer(tmp_path) == []


def test_a_file_that_fails_stops_no_other_and_is_tried_again(tmp_path: Path, inference: list[Path]) -> None:
    bad = arrive(tmp_path / "in", "bad.npy", b"bad", age=7200)
    arrive(tmp_path / "in", "good.npy")
    results = infer_new(tmp_path, "digits", tmp_path / "in", tmp_path / "out", tmp_path)
    assert [(one.file.path.name, one.problem) for one in results] == [("bad.npy", "damaged"), ("good.npy", "")]
    when = bad.stat().st_mtime
    bad.write_bytes(b"abc")
    os.utime(bad, (when, when))
    assert infer(tmp_path) == ["bad.npy"]


def test_two_runs_at_once_predict_nothing_twice(tmp_path: Path, inference: list[Path]) -> None:
    arrive(tmp_path / "in", "a.npy")
    (tmp_path / "out").mkdir()
    with hold(tmp_path / "out" / LOCK):
        assert infer(tmp_path) == []
    assert infer(tmp_path) == ["a.npy"]


def test_links_and_hidden_files_are_left_out(tmp_path: Path) -> None:
    file = arrive(tmp_path / "in", "a.npy")
    (tmp_path / "in" / "link.npy").symlink_to(file)
    arrive(tmp_path / "in", ".part.npy")
    assert [new.path.name for new in find_new(tmp_path / "in", tmp_path, "digits")] == ["a.npy"]
    assert output_of(tmp_path, "a", file, file.stat()) != output_of(tmp_path, "b", file, file.stat())


@pytest.mark.parametrize("name", HOSTILE)
def test_cron_runs_the_script_whatever_its_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    script, log = folder / f"{name}.sh", folder / f"{name}.log"
    script.write_text(render_script(["printf", "%s|", *HOSTILE], folder))
    script.chmod(0o755)
    line = render_line(Scheduler.CRONTAB, Period.WEEKLY, script, log)
    minute, hour, day, month, weekday, command = line.rstrip("\n").split(" ", 5)
    assert 0 <= int(minute) < 60 and (hour, day, month, weekday) == ("3", "*", "*", "1")
    subprocess.run(["/bin/sh", "-c", as_cron_reads(command)], check=True, cwd=tmp_path)
    assert log.read_text() == "".join(f"{text}|" for text in HOSTILE)
    assert sorted(path.name for path in folder.iterdir()) == sorted([script.name, log.name])


def as_cron_reads(command: str) -> str:
    """The command after crontab(5): a percent sign ends it unless a backslash stands before, which is removed."""
    read, at = "", 0
    while at < len(command):
        assert command[at] != "%", "cron would end the command here"
        if command[at : at + 2] == "\\%":
            at += 1
        read, at = read + command[at], at + 1
    return read


@pytest.mark.parametrize(("period", "when"), [("daily", "* * *"), ("weekly", "* * 1"), ("monthly", "1 * *")])
def test_scrontab_gets_its_options_before_the_line(period: str, when: str) -> None:
    text = render_line(Scheduler.SCRONTAB, Period(period), Path("/a b/x%.sh"), Path("/a b/x.log"), hour=5, cpus=4)
    options, line, end = text.split("\n")
    assert options.startswith("#SCRON ") and "--cpus-per-task=4" in shlex.split(options[7:]) and end == ""
    assert any(word.startswith("--output=/a b/") for word in shlex.split(options[7:]))
    assert line.split(" ", 5)[1:5] == ["5", *when.split()]


@pytest.mark.parametrize("scheduler", list(Scheduler))
def test_a_path_with_a_line_break_is_refused(scheduler: Scheduler) -> None:
    with pytest.raises(UserError, match="control character"):
        render_line(scheduler, Period.DAILY, Path("/a\n* * * * * rm -rf /"), Path("/log"))
    with pytest.raises(UserError, match="hour"):
        render_line(scheduler, Period.DAILY, Path("/a"), Path("/log"), hour=24)


def test_only_its_own_script_is_replaced(tmp_path: Path) -> None:
    own, other, fifo = (tmp_path / name for name in ("own", "other", "fifo"))
    own.write_text(render_script(["python", "-m", "saman", "schedule", "run", "digits"], tmp_path))
    other.write_text("#!/bin/bash\nset -eu\nprecious\n")
    os.mkfifo(fifo)
    assert is_job_script(own)
    assert not any(is_job_script(file) for file in (other, fifo, tmp_path, tmp_path / "missing"))
