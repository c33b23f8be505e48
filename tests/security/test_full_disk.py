"""A full disk: a line written in part is no success, and a run that a full disk ended does not stay running."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from saman.configs.errors import EnvironmentLack
from saman.configs.schemas.script import Script
from saman.jobs.status import RunState, read_status
from saman.launcher.local import run_script
from saman.launcher.planning import Options
from saman.runs.events import State
from saman.runs.files import whole
from saman.runs.files.reserve import RESERVED_BYTES
from saman.runs.files.whole import append_line, read_lines
from saman.runs.find import find_runs
from saman.runs.folder import RunFolder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a file system")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def _fill(folder: Path, leave: int = 0) -> None:
    """Fill the disk to the last ``leave`` bytes."""
    free = os.statvfs(folder)
    try:
        (folder / "ballast").write_bytes(b"x" * (free.f_bavail * free.f_frsize - leave))
    except OSError as error:
        assert error.errno == errno.ENOSPC


def _short_writes(monkeypatch: pytest.MonkeyPatch, lengths: list[int]) -> None:
    """Let each write take only so many bytes, as a nearly full disk does."""
    write = os.write

    def short(descriptor: int, data: bytes) -> int:
        return write(descriptor, data[: lengths.pop(0)] if lengths else data)

    monkeypatch.setattr(whole.os, "write", short)


def test_a_line_written_in_part_is_written_again_and_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _short_writes(monkeypatch, [7])
    append_line(tmp_path / "f", {"step": 1})
    append_line(tmp_path / "f", {"step": 2})
    lines, dropped = read_lines(tmp_path / "f")
    assert [line["step"] for line in lines] == [1, 2] and dropped == 1


def test_a_line_that_stays_short_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _short_writes(monkeypatch, [7, 3])
    with pytest.raises(OSError) as caught:
        append_line(tmp_path / "f", {"step": 1})
    assert caught.value.errno == errno.ENOSPC
    append_line(tmp_path / "f", {"step": 2})
    assert [line["step"] for line in read_lines(tmp_path / "f")[0]] == [2]


def test_lines_on_a_nearly_full_disk_are_whole_or_an_error(small_disk: Path) -> None:
    file = small_disk / "lines"
    file.touch()
    _fill(small_disk, leave=2 * 4096)
    written = 0
    with pytest.raises(OSError):
        for _ in range(10_000):
            append_line(file, {"number": written, "text": "x" * 300})
            written += 1
    lines, _ = read_lines(file)
    assert written and [line["number"] for line in lines] == list(range(written))


def _script(folder: Path, program: str) -> Script:
    values = {"name": "fill", "command": [sys.executable, "-c", program], "directory": str(folder)}
    return Script.model_validate({**values, "launch": {"with": "processes"}})


FILL = """
import os
descriptor = os.open("ballast", os.O_CREAT | os.O_WRONLY)
try:
    while True:
        os.write(descriptor, b"x" * 4096)
except OSError:
    pass
os.system("sleep 2")
raise SystemExit(1)
"""


def test_a_run_that_fills_its_disk_is_recorded_as_failed(small_disk: Path) -> None:
    try:
        outcome = run_script(_script(small_disk, FILL), Options(runs_dir=small_disk / "runs"))
        assert outcome.state is State.FAILED
    except EnvironmentLack as lack:
        assert "full" in str(lack)
    [run] = find_runs(small_disk / "runs")
    assert run.state is State.FAILED
    [status] = read_status([run])
    assert status.state is RunState.FAILED and status.over


def test_the_reserve_is_there_during_an_attempt_and_gone_after_it(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "runs", _script(tmp_path, ""))
    assert not run.reserve.exists()
    run.new_attempt()
    assert run.reserve.stat().st_size == RESERVED_BYTES
    outcome = run_script(_script(tmp_path, "pass"), Options(runs_dir=tmp_path / "other"))
    assert outcome.exit_code == 0 and not outcome.run.reserve.exists()


def test_the_last_event_takes_the_reserve_of_a_full_disk(small_disk: Path) -> None:
    run = RunFolder.create(small_disk / "runs", _script(small_disk, ""))
    run.new_attempt()
    run.append("attempt_started", "supervisor", 1)
    _fill(small_disk)
    run.append("failed", "supervisor", 1, message="x" * 5000)
    assert RunFolder.open(run.path).state is State.FAILED
